"""The commands ``comet deadletter ...``: what a destination refused for good, and how to try it again."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from comet_cli.dead_letters import StoredLetter, Wanted, replay_letters, stored_letters
from comet_cli.exporting import ExportFormat, target_file, telemetry_record
from comet_cli.lines import printable
from comet_cli.opening import moment_text, open_log, parse_moment
from comet_cli.options import (
    AsJson,
    DataDirectory,
    Output,
    Overwrite,
    examples,
    finish,
    print_json,
)
from comet_cli.otlp_json import NotTelemetryError, request_json
from comet_otel.streams import Signal
from comet_storage import MessageID
from shipper.delivery.dead_letters import STREAM
from shipper.errors import ConfigurationError

app = typer.Typer(
    help="List, show, export, replay and delete the requests that a destination refused for good.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Destination = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only those that it refused.", show_default=False)
]
OfSignal = Annotated[
    str | None, typer.Option("--signal", metavar="NAME", help="Only traces, metrics or logs.", show_default=False)
]
Code = Annotated[
    str | None, typer.Option(metavar="CODE", help="Only of this answer, such as 'HTTP 400'.", show_default=False)
]
RefusedSince = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="Refused from then on: 2h ago, or a time.", show_default=False),
]


@app.command("list", epilog=examples("deadletter list", "deadletter list --code 'HTTP 400' --json"))
def list_letters(
    data_dir: DataDirectory = None,
    destination: Destination = None,
    signal: OfSignal = None,
    code: Code = None,
    since: RefusedSince = None,
    as_json: AsJson = False,
) -> None:
    """Say which requests were refused, by whom, when and why."""
    wanted = _wanted(destination, signal, code, since)
    with open_log(data_dir) as client:
        found = [stored.facts() for stored in stored_letters(client) if stored in wanted]
    if as_json:
        print_json(found)
        return
    for each in found:
        items = "?" if each["items"] is None else f"{each['items']:,}"
        at = moment_text(int(each["last_try"] * 1e9))
        text = f"{each['id']} {at} {each['destination']} {each['signal']} {items} items {each['bytes']:,} bytes"
        typer.echo(printable(f"{text} {each['reason']}: {each['code']}: {each['message']}"))
    kinds = Counter((each["destination"], each["signal"], each["reason"], each["code"]) for each in found)
    summary = [f"{count:,} x {' '.join(kind)}" for kind, count in kinds.most_common()]
    finish(printable("; ".join(summary)) or "there are no dead letters", [])


@app.command(epilog=examples("deadletter show 0-17"))
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` has it: shard and number.")],
    data_dir: DataDirectory = None,
) -> None:
    """Show everything about one of them, the request included, as JSON."""
    with open_log(data_dir) as client:
        message_id = MessageID.parse(letter_id)
        stored = next((each for each in stored_letters(client) if message_id in each.ids), None)
    if stored is None:
        raise ConfigurationError(f"there is no dead letter {letter_id}")
    try:
        request: object = request_json(stored.letter.body, Signal(stored.letter.signal))
    except (NotTelemetryError, ValueError):
        request = {"hex": stored.letter.body.hex()}
    print_json({**stored.facts(), "request": request})


@app.command(
    "export",
    epilog=examples(
        "deadletter export -o refused.jsonl",
        "deadletter export --signal traces --format otlp-proto -o refused.bin",
        no="some of them are no telemetry and were left out",
    ),
)
def export_letters(
    data_dir: DataDirectory = None,
    output: Output = None,
    written: Annotated[
        ExportFormat, typer.Option("--format", help="otlp-json or otlp-proto.")
    ] = ExportFormat.OTLP_JSON,
    destination: Destination = None,
    signal: OfSignal = None,
    code: Code = None,
    since: RefusedSince = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the requests to a file, as `comet export` does."""
    if written is ExportFormat.RAW:
        raise ConfigurationError("--format is raw: 'comet export deadletter' writes the records as they are stored")
    wanted, count, refused = _wanted(destination, signal, code, since), 0, []
    with open_log(data_dir) as client, target_file(output, overwrite=overwrite) as file:
        for stored in stored_letters(client):
            if stored not in wanted:
                continue
            try:
                file.write(telemetry_record(stored.letter.body, Signal(stored.letter.signal), written))
                count += 1
            except (NotTelemetryError, ValueError) as error:
                refused.append(f"dead letter {stored.ids[0]}: {error}")
    finish(f"{count:,} requests written", refused)


@app.command(
    epilog=examples(
        "deadletter replay --code 'HTTP 400'",
        "deadletter replay --destination main --dry-run",
        more="Each is appended to the stream that it came from, and goes to every destination of that stream. None is "
        "replayed twice.\n",
    )
)
def replay(
    data_dir: DataDirectory = None,
    destination: Destination = None,
    signal: OfSignal = None,
    code: Code = None,
    since: RefusedSince = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Send them on their way again, when what was wrong is mended."""
    wanted = _wanted(destination, signal, code, since)
    with open_log(data_dir, read_only=False) as client:
        done: list[StoredLetter] = list(replay_letters(client, wanted, dry_run=dry_run))
    items = sum(stored.letter.items or 0 for stored in done)
    text = "would be" if dry_run else "are"
    finish(f"{len(done):,} requests with {items:,} items {text} on their way again", [])


@app.command(epilog=examples("deadletter purge --yes", no="you said no"))
def purge(
    data_dir: DataDirectory = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete them for good. What a running shipper is writing stays until its segment is full."""
    with open_log(data_dir, read_only=False) as client:
        if STREAM not in client.streams():
            finish("there are no dead letters", [])
            return
        count = client.len(STREAM)
        if not yes:
            typer.confirm(f"delete {count:,} dead letters for good?", abort=True)
        client.repair(STREAM)
        client.shrink_stream(STREAM, 0)
        left = client.len(STREAM)
    finish(f"{count - left:,} dead letters deleted, {left:,} left", [])


def _wanted(destination: str | None, signal: str | None, code: str | None, since: str | None) -> Wanted:
    if signal is not None and signal not in {each.value for each in Signal}:
        raise ConfigurationError(f"--signal is {signal!r}: must be traces, metrics or logs")
    return Wanted(destination, signal, code, parse_moment("--since", since))

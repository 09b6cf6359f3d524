"""The command ``comet``."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Final, NoReturn

from shipper.errors import ConfigurationError, EnvironmentFailedError, ShipperError

try:
    import typer
except ImportError as missing:
    sys.stderr.write(f"comet: {missing}; install what it needs with: pip install 'comet-otel[shipper]'\n")
    sys.exit(EnvironmentFailedError.exit_code)

from comet_cli import deadletter_commands
from comet_cli.checking import shard_json, shard_lines
from comet_cli.exporting import ExportFormat, raw_record, target_file, telemetry_record, write_entries
from comet_cli.lines import message_lines
from comet_cli.listing import list_shards, listing_table
from comet_cli.opening import open_log, parse_moment, shard_names, stream_names
from comet_cli.options import (
    NO,
    AnyStream,
    AsJson,
    DataDirectory,
    OneStream,
    Output,
    Overwrite,
    Since,
    complain,
    examples,
    finish,
    print_json,
    wide_console,
)
from comet_cli.replaying import carry_out, plan_replay
from comet_otel.streams import ROUTES, route_of_stream
from comet_otel.version import version_line
from comet_storage import Client, StreamMessage
from shipper import status as status_module
from shipper.status_table import size_text, status_view

_FOLLOW_SECONDS: Final = 0.5
_TELEMETRY: Final = frozenset(route.stream for route in ROUTES)

app = typer.Typer(
    name="comet",
    help="Look after the telemetry log of this node. Applications and the shipper may run meanwhile.",
    epilog="Examples: [bold]comet ls --help[/], [bold]comet verify --help[/] and so on",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(deadletter_commands.app, name="deadletter")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(version_line("comet"))
        raise typer.Exit


@app.callback()
def _app(
    _: Annotated[
        bool, typer.Option("--version", help="Say which release this is.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command and exit with its code."""
    try:
        app()
    except ConfigurationError as error:
        for problem in error.problems:
            complain(problem)
        sys.exit(error.exit_code)
    except ShipperError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    sys.exit(0)


@app.command(epilog=examples("status", "status --data-dir /var/lib/comet --json"))
def status(data_dir: DataDirectory = None, as_json: AsJson = False) -> None:
    """Say how full the log is, what waits in it, and what was ever lost."""
    with open_log(data_dir) as client:
        found = status_module.read_status(Path(client.data_dir))
        retention = client.retention_stats()
        bound = client.max_total_size()
    if as_json:
        facts = {"max_total_size": bound, "free_bytes": retention.free_bytes, "evicted": retention.evicted_entries}
        print_json({**facts, **dataclasses.asdict(found)})
        return
    console = wide_console()
    used = f"{size_text(retention.total_size_bytes)} of at most {size_text(bound)}"
    console.print(f"{used}; {size_text(retention.free_bytes)} free on the volume")
    console.print(status_view(found), soft_wrap=True)


@app.command(epilog=examples("ls", "ls traces", "ls --json"))
def ls(stream: AnyStream = None, data_dir: DataDirectory = None, as_json: AsJson = False) -> None:
    """List streams and their shards: entries, size, age, and how far each consumer group is."""
    with open_log(data_dir) as client:
        listings = list_shards(client, stream_names(client, stream))
    if as_json:
        print_json([dataclasses.asdict(each) for each in listings])
    elif listings:
        wide_console().print(listing_table(listings))
    else:
        typer.echo("nothing was written yet")


@app.command(epilog=examples("tail", "tail logs -n 100", "tail traces --follow", "tail logs --json | jq ."))
def tail(
    stream: AnyStream = None,
    data_dir: DataDirectory = None,
    count: Annotated[int, typer.Option("-n", "--count", min=0, help="Entries to begin with.")] = 10,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the newest spans, log records, data points or other entries, a line each. No consumer group is touched."""
    with open_log(data_dir) as client:
        names = [name for each in stream_names(client, stream) for name in shard_names(client, each)]
        recent = {name: client.list_recent(name, max(1, count)) for name in names}
        following = {name: messages[-1].id.entry_number + 1 for name, messages in recent.items() if messages}
        newest = sorted(chain.from_iterable(recent.values()), key=attrgetter("timestamp"))
        _show(newest[len(newest) - min(count, len(newest)) :], as_json=as_json)
        try:
            while follow:
                time.sleep(_FOLLOW_SECONDS)
                _show(_new_messages(client, stream, following), as_json=as_json)
        except KeyboardInterrupt:
            return


def _new_messages(client: Client, stream: str | None, following: dict[str, int]) -> Iterator[StreamMessage]:
    for name in chain.from_iterable(shard_names(client, each) for each in stream_names(client, stream)):
        for message in client.scan(name, following.get(name, 0)):
            following[name] = message.id.entry_number + 1
            yield message


def _show(messages: Iterable[StreamMessage], *, as_json: bool) -> None:
    for message in messages:
        for line in (_json_line(message),) if as_json else message_lines(message):
            typer.echo(line)


def _json_line(message: StreamMessage) -> str:
    """Telemetry as OTLP's JSON, so that `tail --json` and `export` agree; other entries in base64."""
    return _record(message, None).decode().rstrip("\n")


def _record(message: StreamMessage, written: ExportFormat | None) -> bytes:
    stream = message.stream.partition(":shard:")[0]
    if written is ExportFormat.RAW or stream not in _TELEMETRY:
        return raw_record(message)
    return telemetry_record(message.data, route_of_stream(stream).signal, written or ExportFormat.OTLP_JSON)


@app.command(
    epilog=examples(
        "export traces -o traces.jsonl",
        "export logs --since 2h --until 1h",
        "export metrics --format otlp-proto -o metrics.bin",
        "export events:v1 --format raw",
        no="some entries are no telemetry and were left out",
        more="otlp-json and otlp-proto are the formats of the OpenTelemetry Collector's file exporter.\n",
    )
)
def export(
    stream: OneStream,
    data_dir: DataDirectory = None,
    output: Output = None,
    written: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="Default: otlp-json, and raw where that cannot be.", show_default=False),
    ] = None,
    since: Since = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Appended before then.", show_default=False)] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write what a stream holds to a file, delivered or not. No consumer group is touched."""
    first, end = parse_moment("--since", since), parse_moment("--until", until)
    with open_log(data_dir) as client:
        (name,) = stream_names(client, stream)
        if written not in (None, ExportFormat.RAW) and name.partition(":shard:")[0] not in _TELEMETRY:
            raise ConfigurationError(f"{name} holds no telemetry; --format raw writes entries of any kind")
        messages = (
            message
            for shard in shard_names(client, name)
            for message in client.scan(shard)
            if (first is None or message.timestamp >= first) and (end is None or message.timestamp < end)
        )
        with target_file(output, overwrite=overwrite) as file:
            count, refused = write_entries(messages, lambda message: _record(message, written), file)
    finish(f"{count:,} entries written", refused)


@app.command(
    epilog=examples("verify", "verify traces", "verify --json", no="entries are damaged on the disk or cannot be read")
)
def verify(stream: AnyStream = None, data_dir: DataDirectory = None, as_json: AsJson = False) -> None:
    """Read every byte and say what is whole, what is damaged, and which numbers are gone and why. Changes nothing."""
    with open_log(data_dir) as client:
        found = [shard for each in stream_names(client, stream) for shard in client.verify(each)]
    if as_json:
        print_json([shard_json(each) for each in found])
    else:
        for line in chain.from_iterable(map(shard_lines, found)):
            typer.echo(line)
    if any(missing.reason in {"corrupt", "unsupported"} for each in found for missing in each.missing):
        raise typer.Exit(NO)


@app.command(
    epilog=examples(
        "repair",
        "repair traces",
        no="a shard was left alone because a process writes it, or the disk refused",
        more="Damaged bytes stay where they are: readers pass over them and count them; comet verify names them.\n",
    )
)
def repair(stream: AnyStream = None, data_dir: DataDirectory = None) -> None:
    """Recover what a crash left, close it with an index, and give back unused space, in shards that nobody writes."""
    with open_log(data_dir, read_only=False) as client:
        before = client.allocated_bytes()
        names = [name for each in stream_names(client, stream) for name in shard_names(client, each)]
        refused = [f"{shard}: {error}" for name in names for shard, error in client.repair(name).items()]
        freed = max(0, before - client.allocated_bytes())
    finish(f"{len(names) - len(refused):,} shards are in order; {size_text(freed)} given back", refused)


@app.command(
    epilog=examples(
        "replay traces --group shipper --since 2h",
        "replay logs --group shipper --all",
        "replay logs --group shipper --since 2026-03-01T12:00Z --dry-run",
        no="a shard was left alone because a running shipper holds it",
        more="Stop the shipper before, and start it again: it goes on where the group is then.\n",
    )
)
def replay(
    stream: OneStream,
    group: Annotated[str, typer.Option(metavar="NAME", help="Consumer group that goes back.")],
    data_dir: DataDirectory = None,
    since: Since = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything that the log still holds.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Have a consumer group get again what it got already, as after a loss behind the collector."""
    if (since is None) != everything:
        raise ConfigurationError("say how far back: either --since WHEN or --all")
    first = parse_moment("--since", since)
    with open_log(data_dir, read_only=dry_run) as client:
        (name,) = stream_names(client, stream)
        if ":shard:" in name:
            raise ConfigurationError(f"{name} is one shard: a group goes back in a whole stream")
        replays = plan_replay(client, name, group, first)
        refused = [] if dry_run else carry_out(client, name, group, replays)
    for each in replays:
        typer.echo(f"{each.shard}: from entry {each.offset} back to {each.target}")
    count = sum(each.offset - each.target for each in replays)
    finish(f"at most {count:,} entries {'would be' if dry_run else 'are'} delivered again", refused)

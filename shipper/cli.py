"""The command ``comet-shipper``."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

from shipper import config as configuration
from shipper.errors import ConfigurationError, EnvironmentFailedError, ShipperError

try:
    import rich.console
    import typer
except ImportError as missing:
    sys.stderr.write(f"comet-shipper: {missing}; install what it needs with: pip install 'comet-otel[shipper]'\n")
    sys.exit(EnvironmentFailedError.exit_code)

NOT_DRAINED = 1
"""Exit code of ``run --once`` when it was told to stop before everything was delivered."""

_EXAMPLES_RUN = """
Examples:

  comet-shipper run --data-dir /var/lib/comet --endpoint http://collector:4317

  comet-shipper run --data-dir /var/lib/comet --endpoint https://otlp.example.com --protocol http/protobuf
  --header "api-key=TOKEN"

  comet-shipper run --data-dir ./telemetry --endpoint http://localhost:4317 --once

Options not given are taken from COMET_DATA_DIR and OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL, _COMPRESSION, _HEADERS,
_CERTIFICATE, _INSECURE and _TIMEOUT (milliseconds). Headers in a variable are not seen in process lists.

Exit codes: 0 stopped as told, 1 --once was stopped before all was delivered, 2 wrong usage or configuration,
3 the environment failed (directory, permission, missing package).
"""
_EXAMPLES_STATUS = """
Examples:

  comet-shipper status --data-dir /var/lib/comet

  comet-shipper status --data-dir /var/lib/comet --json

Works while applications and the shipper run, and changes nothing. Without --data-dir, COMET_DATA_DIR says where the
log is.

Exit codes: 0 fine, 2 wrong usage, 3 there is no log or it cannot be read.
"""

app = typer.Typer(
    name="comet-shipper",
    help="Forward the telemetry log of this node to an OpenTelemetry collector.",
    epilog="Examples: [bold]comet-shipper run --help[/] and [bold]comet-shipper status --help[/]",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataDirectory = Annotated[Path | None, typer.Option("--data-dir", help="Directory of the log.", show_default=False)]


def main() -> NoReturn:
    """Run the command and exit with its code."""
    try:
        app()
    except ShipperError as error:
        rich.console.Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"comet-shipper: {error}", markup=False
        )
        sys.exit(error.exit_code)
    sys.exit(0)


@app.command(epilog=_EXAMPLES_RUN)
def run(
    data_dir: DataDirectory = None,
    endpoint: Annotated[str | None, typer.Option(help="Where the collector is, as a URL.", show_default=False)] = None,
    protocol: Annotated[str | None, typer.Option(help="grpc (default) or http/protobuf.", show_default=False)] = None,
    compression: Annotated[str | None, typer.Option(help="gzip (default) or none.", show_default=False)] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="NAME=VALUE", help="Sent with every request; repeatable.", show_default=False),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="Authorities to trust instead of the system's.", show_default=False),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="No TLS, for an endpoint given without http:// or https://.")
    ] = False,
    max_request_bytes: Annotated[
        int, typer.Option(metavar="N", help="Join entries up to this size, before compression.")
    ] = configuration.MAX_REQUEST_BYTES_DEFAULT,
    timeout: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds that one request may take (default 10).")
    ] = None,
    retry_max: Annotated[
        float, typer.Option(metavar="S", help="Seconds that pauses between tries grow to.")
    ] = configuration.RETRY_MAX_DEFAULT,
    group: Annotated[str, typer.Option(metavar="NAME", help="Consumer group to read as.")] = "shipper",
    once: Annotated[bool, typer.Option("--once", help="Deliver what is there, then exit.")] = False,
) -> None:
    """Forward until told to stop. Nothing leaves the log unless the collector took it; there is no give-up time."""
    options = configuration.Options(
        data_dir=data_dir,
        endpoint=endpoint,
        protocol=protocol,
        compression=compression,
        headers=tuple(header or ()),
        certificate=certificate,
        insecure=insecure,
        max_request_bytes=max_request_bytes,
        timeout=timeout,
        retry_max=retry_max,
        group=group,
        once=once,
    )
    settings = configuration.load_config(options, os.environ)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    from shipper.daemon import Daemon  # noqa: PLC0415 - so that --help and wrong options answer at once

    if not Daemon(settings).run():
        raise typer.Exit(NOT_DRAINED)


@app.command(epilog=_EXAMPLES_STATUS)
def status(
    data_dir: DataDirectory = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what waits in the log, how old it is, and what was ever lost."""
    directory = data_dir or Path(os.environ.get("COMET_DATA_DIR", ""))
    if directory == Path():
        raise ConfigurationError("--data-dir is not given: say where the log is, or set COMET_DATA_DIR")
    from shipper import status as status_module  # noqa: PLC0415 - as above

    report = status_module.read_status(directory)
    if as_json:
        print(status_module.to_json(report))  # noqa: T201 - this is the answer
    else:
        status_module.print_table(report, rich.console.Console())

"""The command ``comet-receiver``."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

from comet_otel.config import load_config
from comet_otel.version import version_line
from comet_storage import CometError, ConfigError, quantities

_WRONG_USAGE = 2
_ENVIRONMENT_FAILED = 3

try:
    import typer

    from comet_otel.receiver.config import ReceiverConfig
    from comet_otel.receiver.daemon import COMPRESSION_LEVEL, serve
except ModuleNotFoundError as missing:
    sys.stderr.write(f"comet-receiver: {missing}; install what it needs with: pip install 'comet-otel[receiver]'\n")
    sys.exit(_ENVIRONMENT_FAILED)

_DEFAULTS = ReceiverConfig()
_OFF = "off"

_EXAMPLES = """
Examples:

  comet-receiver --data-dir /var/lib/comet

  comet-receiver --grpc-endpoint unix:/run/comet/otlp.sock --http-endpoint off

  comet-receiver --grpc-endpoint 0.0.0.0:4317 --http-endpoint 0.0.0.0:4318 --tls-certificate server.pem
  --tls-key server.key --token-file tokens

Without --data-dir, COMET_DATA_DIR says where the log is; COMET_MAX_TOTAL_SIZE and COMET_DURABILITY are heeded too.

Files of certificates and tokens are read again when they change. SIGTERM stops it: requests that have come are
answered first.

Exit codes: 0 stopped as told, 2 wrong usage or configuration, 3 the environment failed (directory, address, permission,
missing package).
"""

app = typer.Typer(
    name="comet-receiver",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(version_line("comet-receiver"))
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Say which release this is.", callback=_print_version, is_eager=True)
]


def main() -> NoReturn:
    """Run the command and exit with its code."""
    try:
        app()
    except ConfigError as error:
        _fail(error, _WRONG_USAGE)
    except (CometError, OSError) as error:
        _fail(error, _ENVIRONMENT_FAILED)
    sys.exit(0)


def _fail(error: Exception, code: int) -> NoReturn:
    sys.stderr.write(f"comet-receiver: {error}\n")
    sys.exit(code)


@app.command(epilog=_EXAMPLES)
def run(
    data_dir: Annotated[Path | None, typer.Option(help="Directory of the log.", show_default=False)] = None,
    grpc_endpoint: Annotated[
        str, typer.Option(metavar="ADDRESS", help="For OTLP/gRPC: HOST:PORT, unix:/PATH or off.")
    ] = str(_DEFAULTS.grpc_endpoint),
    http_endpoint: Annotated[
        str, typer.Option(metavar="ADDRESS", help="For OTLP/HTTP, health and metrics: the same.")
    ] = str(_DEFAULTS.http_endpoint),
    tls_certificate: Annotated[Path | None, typer.Option(metavar="PEM", help="This server's certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="And its private key.")] = None,
    client_authorities: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Clients must show a certificate that one of these signed.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Clients must send one of these bearer tokens, one a line.")
    ] = None,
    allow_insecure: Annotated[
        bool, typer.Option("--allow-insecure", help="Listen without TLS also where other machines can connect.")
    ] = False,
    socket_mode: Annotated[str, typer.Option(metavar="MODE", help="Permissions of Unix domain sockets.")] = "600",
    max_body_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Largest body, as it comes and decompressed.")
    ] = "64 MiB",
    max_in_flight_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Memory that all requests together may take.")
    ] = "256 MiB",
    max_concurrent_requests: Annotated[
        int, typer.Option(metavar="N", help="Complete requests that may be waiting to be stored.")
    ] = _DEFAULTS.max_concurrent_requests,
    max_connections: Annotated[
        int, typer.Option(metavar="N", help="Connections of each protocol.")
    ] = _DEFAULTS.max_connections,
    header_timeout: Annotated[
        float, typer.Option(metavar="S", help="Seconds for headers and TLS handshakes.")
    ] = _DEFAULTS.header_timeout,
    body_timeout: Annotated[
        float, typer.Option(metavar="S", help="Seconds for the next piece of a body.")
    ] = _DEFAULTS.body_timeout,
    group_wait: Annotated[
        float, typer.Option(metavar="S", help="Seconds that a small request may wait for others to share its frame.")
    ] = _DEFAULTS.group_wait,
    duplicate_window: Annotated[
        float, typer.Option(metavar="S", help="Seconds that the request ids of comet-shipper are remembered; 0: not.")
    ] = _DEFAULTS.duplicate_window,
    compression_level: Annotated[int, typer.Option(help="-7 (fastest) to 19 (smallest), not 0.")] = COMPRESSION_LEVEL,
    grace: Annotated[float, typer.Option(metavar="S", help="Seconds for requests in flight at the end.")] = 5.0,
    _version: Version = False,
) -> None:
    """Store what OTLP clients in any language send in the log of this node. What is acknowledged is stored."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # what it says of its own start and end is said already
    config = ReceiverConfig(
        grpc_endpoint=None if grpc_endpoint == _OFF else grpc_endpoint,
        http_endpoint=None if http_endpoint == _OFF else http_endpoint,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        client_authorities=client_authorities,
        token_file=token_file,
        allow_insecure=allow_insecure,
        socket_mode=_mode(socket_mode),
        max_body_bytes=_size("--max-body-size", max_body_size),
        max_bytes_in_flight=_size("--max-in-flight-size", max_in_flight_size),
        max_concurrent_requests=max_concurrent_requests,
        max_connections=max_connections,
        header_timeout=header_timeout,
        body_timeout=body_timeout,
        group_wait=group_wait,
        duplicate_window=duplicate_window,
    )
    config.validate()
    serve(load_config(data_dir=data_dir, environment=os.environ), config, grace, compression_level)


def _size(option: str, text: str) -> int:
    try:
        return quantities.parse_size(text)
    except ValueError as error:
        raise ConfigError(f"{option} is {text!r}: {error}") from error


def _mode(text: str) -> int:
    try:
        return int(text, 8) & 0o777
    except ValueError as error:
        raise ConfigError(f"--socket-mode is {text!r}: must be octal, such as 660") from error

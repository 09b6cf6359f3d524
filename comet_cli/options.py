"""What the commands have in common: options, help, exit codes, and how they say what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import rich.console
import typer

NO: Final = 1
"""Exit code where the answer is no: something is damaged, could not be done, or could not be written."""

_TABLE_WIDTH: Final = 130

DataDirectory = Annotated[Path | None, typer.Option(help="Directory of the log.", show_default=False)]
AnyStream = Annotated[
    str | None,
    typer.Argument(
        metavar="[STREAM]",
        help="traces, metrics, logs, deadletter, a stream such as events:v1, or one shard of it. All if not given.",
        show_default=False,
    ),
]
OneStream = Annotated[
    str,
    typer.Argument(
        metavar="STREAM",
        help="traces, metrics, logs, deadletter, a stream such as events:v1, or one shard of it.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Since = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="Appended from then on: 2h ago, or 2026-03-01T12:00Z.", show_default=False),
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="File to write (default: standard output).", show_default=False)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")]


def examples(*commands: str, no: str = "", more: str = "") -> str:
    """The end of a command's help: how to call it, and what its exit code says."""
    shown = "\n\n".join(f"  comet {command}" for command in commands)
    return (
        f"\nExamples:\n\n{shown}\n\n{more}\nWithout --data-dir, COMET_DATA_DIR says where the log is.\n\n"
        f"Exit codes: 0 fine,{f' 1 {no},' if no else ''} 2 wrong usage, 3 there is no log, or the machine refuses.\n"
    )


def wide_console() -> rich.console.Console:
    """Where tables go: wide enough for all columns, also where there is no terminal to tell how wide it is."""
    console = rich.console.Console(highlight=False)
    return rich.console.Console(highlight=False, width=max(console.width, _TABLE_WIDTH))


def complain(text: str) -> None:
    """Say on standard error what is wrong."""
    console = rich.console.Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"comet: {text}", markup=False)


def print_json(value: Any) -> None:
    """Print an answer for programs."""
    typer.echo(json.dumps(value, indent=2, default=str))


def finish(text: str, refused: list[str]) -> None:
    """Say on standard error what was done, and what could not be, which makes the answer no."""
    for each in refused:
        complain(each)
    sys.stderr.write(f"{text}\n")
    if refused:
        raise typer.Exit(NO)

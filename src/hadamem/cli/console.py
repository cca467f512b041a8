"""The output of the commands: messages on stderr, tables on stdout, JSON in files."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..disk import write_whole
from ..text import as_text, columns

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_AS_IT_IS: Any = {"markup": False, "emoji": False}  # a path may contain "[/a]" or ":b:"
console = Console(stderr=True, **_AS_IT_IS)


def say(text: str, style: str | None = None) -> None:
    """Print a message unchanged, on one line, so that a command in it can be copied; drop it if it cannot be written."""
    with contextlib.suppress(OSError):  # the terminal is gone
        console.print(text, style=style, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def show_status(text: str = "") -> Iterator[Callable[[str], None]]:
    """Show what is computed now: on a terminal, in a line that changes; elsewhere, as a message at most every 10 seconds.

    Yields:
        A function that takes the new status.
    """
    if console.is_terminal:
        with console.status(Text(text)) as status:
            yield lambda text: status.update(Text(text))
        return
    due = time.monotonic() + 2.0

    def show(text: str) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + 10.0
            say(text)

    yield show


def print_table(table: Table) -> None:
    """Print a table on stdout, as wide as the terminal; elsewhere (a file, a log), up to 150 characters wide."""
    Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 150, **_AS_IT_IS).print(table)


def make_table(title: str, columns: Sequence[str]) -> Table:
    """An empty table; its first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    return table


def print_rows(title: str, rows: Sequence[DataclassInstance | Mapping[str, Any]], without: Collection[str] = ()) -> None:
    """Print rows of equal columns as a table, see `text.columns`, except the columns that are named in `without`."""
    cells = [{name: value for name, value in columns(row).items() if name not in without} for row in rows]
    table = Table(title=title, title_justify="left")
    for name, value in cells[0].items():
        first = not table.columns  # usually a name, which would be hard to copy if it were broken
        table.add_column(name, justify="right" if as_text(value)[:1].isdigit() else "left", overflow="fold", no_wrap=first)
    for row in cells:
        table.add_row(*(as_text(value) for value in row.values()))
    print_table(table)


def write_json(path: pathlib.Path | None, content: Any) -> None:
    """Write the content, in which dataclasses are objects, to the file of the option --json, if it was given."""
    if path is not None:
        write_whole(path, json.dumps(content, indent=2, default=asdict))
        say(f"written to {path}")

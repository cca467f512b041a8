"""The output of the commands: messages on stderr, tables on stdout, JSON in files."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..disk import write_whole
from ..text import as_text, columns

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_AS_IT_IS: Any = {"markup": False, "emoji": False}  # a path may contain "[/a]" or ":b:"
_FOLDED = 12  # least width to which a longer word, such as a path, is folded
if os.environ.get("COLUMNS") in ("", "0"):  # unknown; rich would take 0 for the width, and show nothing
    del os.environ["COLUMNS"]
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


def open_missing_streams() -> None:
    """Open the null device in place of the standard streams that are closed, as those of a daemon may be.

    Python sets these to None, which we and the packages that we use do not expect.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in this order: a file gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (it stays open as long as the process runs)


def print_table(table: Table) -> None:
    """Print a table on stdout, as wide as the terminal; elsewhere (a file, a log), up to 150 characters wide.

    Where that is too narrow, lines of cells are broken, but no name of a row and no number is. Where even that does not
    suffice, each row is printed as its name with a list of its values.
    """
    out = Console(width=shutil.get_terminal_size((150, 0)).columns, **_AS_IT_IS)
    out.print(table if _fit(table, out.width) else _listed(table))


def _listed(table: Table) -> Table:
    """The rows as lists of their values below each other."""
    listed = Table("", title=table.title, title_justify="left", box=None, show_header=False, padding=0)
    listed.columns[0].overflow = "fold"
    heads = [str(column.header) for column in table.columns[1:]]
    for name, *values in zip(*(column.cells for column in table.columns), strict=True):
        told = [f"{head}: {value}" for head, value in zip(heads, values, strict=True) if value not in ("", "-")]
        listed.add_row(name, style="bold")
        listed.add_row(Padding(Text("; ".join(told), overflow="fold"), (0, 0, 0, 2)))
    return listed


def _fit(table: Table, width: int) -> bool:
    """Set the widths of the columns such that the table is at most so wide; False if that is not possible."""
    limits = []
    for column in table.columns:
        cells = [str(column.header), *map(str, column.cells)]
        most = min(max(map(cell_len, cells)), column.max_width or width)
        words = [word for cell in cells for word in cell.split()]
        least = max((_least(word, whole=column is table.columns[0]) for word in words), default=0)
        limits.append((min(least, most), most))
    room = width - 3 * len(limits) - 1  # without the lines, and the spaces on both sides of a cell
    for level in range(width, -1, -1):  # the columns are equally wide, as far as their contents allow it
        widths = [min(max(level, least), most) for least, most in limits]
        if sum(widths) <= room:
            for column, column.width in zip(table.columns, widths, strict=True):
                column.no_wrap, column.overflow = False, "fold"
            return True
    return False


def _least(word: str, whole: bool) -> int:
    """Width below which a word of a cell is not folded; a number is not folded at all."""
    return cell_len(word) if whole or word.lstrip("-")[:1].isdigit() else min(cell_len(word), _FOLDED)


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
        table.add_column(name, justify="right" if as_text(value)[:1].isdigit() else "left")
    for row in cells:
        table.add_row(*(as_text(value) for value in row.values()))
    print_table(table)


def write_json(path: pathlib.Path | None, content: Any) -> None:
    """Write the content, in which dataclasses are objects, to the file of the option --json, if it was given."""
    if path is not None:
        write_whole(path, json.dumps(content, indent=2, default=asdict))
        say(f"written to {path}")

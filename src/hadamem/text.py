"""Numbers and tables as text."""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def columns(record: DataclassInstance | Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of a table by the headings of its columns, in order.

    A field `x: Annotated[float, "log10 x"]` of a dataclass is headed "log10 x", one without a heading by its name; a mapping
    is returned unchanged.
    """
    if isinstance(record, Mapping):
        return record
    return {heading: getattr(record, name) for name, heading in _headings(type(record)).items()}


@functools.cache
def _headings(kind: type[DataclassInstance]) -> dict[str, str]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: getattr(hints[field.name], "__metadata__", (field.name,))[0] for field in fields(kind)}


def markdown_table(rows: Sequence[DataclassInstance | Mapping[str, Any]]) -> str:
    """Rows of equal columns as a table in Markdown."""
    cells = [columns(row) for row in rows]
    lines = [list(cells[0]), ["---"] * len(cells[0]), *([as_text(value) for value in row.values()] for row in cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def count(number: int, noun: str) -> str:
    """A number with its noun, such as "1 run" or "2 runs"."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def as_text(value: Any) -> str:
    """Format a value of a table cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if 999.5 <= abs(value) < 1e9 else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else str(value)

"""Numbers and tables as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format rows, which all have the same keys, as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([as_text(value) for value in row.values()] for row in rows)]
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

"""Ranges: what lies in them passes, what does not is answered in the same words everywhere."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from hadamem.checks import check_fields, check_number


@pytest.mark.parametrize(
    ("value", "ends", "allowed"),
    [
        (0, {"at_least": 1}, "at least 1"),
        (-0.1, {"at_least": 0}, "at least 0"),
        (0, {"above": 0}, "greater than 0"),
        (1.5, {"at_least": 0, "at_most": 1}, "between 0 and 1"),
        (1.5, {"above": 0, "at_most": 1}, "greater than 0 and at most 1"),
        (math.nan, {"at_least": 0}, "at least 0"),
        (math.inf, {"above": 0}, "greater than 0"),
        (math.nan, {}, "finite"),
    ],
)
def test_out_of_range(value: float, ends: dict[str, float], allowed: str) -> None:
    with pytest.raises(ValueError, match=f"^size is {value}; it must be {allowed}$"):
        check_number("size", value, **ends)


def test_in_range() -> None:
    check_number("size", 1, at_least=1)
    check_number("size", 1e-9, above=0, at_most=1)
    check_number("size", -3.0)
    check_number("size", None, at_least=1)


def test_fields() -> None:
    options = SimpleNamespace(width=1, sizes=(4, 0), unused=None)
    check_fields(options, ("width", "unused"), at_least=1)
    with pytest.raises(ValueError, match=r"^sizes is 0; it must be at least 1$"):
        check_fields(options, ("width", "sizes"), at_least=1)

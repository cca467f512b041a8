"""Checks of numbers, with one form of error message ("X is v; it must be at least 1"), and of optional packages."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable
from typing import Any


def check_number(
    name: str, value: float | None, *, at_least: float | None = None, above: float | None = None, at_most: float | None = None
) -> None:
    """Raise a ValueError unless a number lies in the range given by the bounds that are not None.

    NaN and infinity lie in no range. A value of None passes: it stands for an option that is not used.
    """
    if value is None or (
        math.isfinite(value)
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
    ):
        return
    if at_least is not None and at_most is not None:
        allowed = f"between {at_least} and {at_most}"
    else:
        ends = [("at least", at_least), ("greater than", above), ("at most", at_most)]
        allowed = " and ".join(f"{words} {end}" for words, end in ends if end is not None) or "finite"
    raise ValueError(f"{name} is {value}; it must be {allowed}")


def check_fields(options: Any, names: Iterable[str], **ends: float) -> None:
    """Call `check_number` for the named attributes of an object; of a tuple, each number is checked."""
    for name in names:
        value = getattr(options, name)
        for number in value if isinstance(value, tuple) else (value,):
            check_number(name, number, **ends)


def check_installed(package: str, extra: str) -> None:
    """Raise a ModuleNotFoundError that says what to install, unless `package`, which hadamem[extra] installs, is there."""
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"{package} is not installed; pip install 'hadamem[{extra}]'", name=package)

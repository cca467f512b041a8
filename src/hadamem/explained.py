"""What a class says about itself: its description, and the meaning of its options, from its docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import docstring_parser


@dataclass(frozen=True)
class Option:
    """An option: its name and default as they are typed on the command line, and its meaning ("" if nothing is said)."""

    option: str
    meaning: str


def description(documented: Any) -> str:
    """What the docstring says before an example and the arguments."""
    return re.split(r"\n(?:Example|Args):", _docstring(documented))[0].strip()


def options(documented: Any, known: Mapping[str, inspect.Parameter], also: Mapping[str, str] | None = None) -> list[Option]:
    """The options `known`, with the meanings that the docstring gives them, or else those in `also`."""
    told = {argument.arg_name: argument.description for argument in docstring_parser.parse(_docstring(documented)).params}
    meanings = {**(also or {}), **told}
    return [Option(_typed(name, known[name].default), " ".join((meanings.get(name) or "").split())) for name in known]


def _docstring(documented: Any) -> str:
    return inspect.cleandoc(documented.__doc__ or "")  # its own, not one that is inherited


def _typed(name: str, default: Any) -> str:
    """An option as it is typed on the command line; without a value if it has no default."""
    if default is inspect.Parameter.empty:
        return name
    if isinstance(default, bool):
        return f"{name}={str(default).lower()}"
    return f"{name}={default:.4g}" if isinstance(default, float) else f"{name}={default}"

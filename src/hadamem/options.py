"""Options of something chosen by name (a memory, an environment), given on the command line as name=value."""

from __future__ import annotations

import ast
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any


def read_options(owner: str, texts: Sequence[str], allowed: Mapping[str, inspect.Parameter] | None) -> dict[str, Any]:
    """Options such as ["theta=fixed", "read_norm=true"], in the types their parameters declare.

    Args:
        owner: whose options they are, for messages: "memory 'shm'".
        texts: the options; of two for one name, the later one counts.
        allowed: parameters by name, with evaluated annotations. None: any names, and values are read as Python literals, or
            texts where they are none.

    Raises:
        ValueError: not of the form name=value, unknown, or not of the declared type.
    """
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or (allowed is not None and name not in allowed):
            has = ", ".join(f"{n} (default {p.default})" for n, p in (allowed or {}).items()) or "none"
            known = "" if allowed is None else f" with a name that {owner} has: {has}"
            raise ValueError(f"option {text!r} of {owner}: must be name=value{known}")
        options[name] = _literal(value) if allowed is None else _convert(f"option {text!r} of {owner}", value, allowed[name])
    return options


def _literal(value: str) -> Any:
    if value.lower() in ("true", "false", "none"):
        value = value.capitalize()
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _convert(what: str, value: str, parameter: inspect.Parameter) -> Any:
    hint = parameter.annotation
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value.lower() == "none" and type(None) in kinds:
        return None
    for kind in kinds:
        if typing.get_origin(kind) is typing.Literal:
            if value in typing.get_args(kind):
                return value
        elif typing.get_origin(kind) is tuple:
            numbers = _literal(value)
            if isinstance(numbers, tuple) and len(numbers) == len(typing.get_args(kind)):
                return numbers
        elif kind is bool:
            if value.lower() in ("true", "false"):
                return value.lower() == "true"
        elif kind is not type(None):
            try:
                return kind(value)
            except ValueError:
                continue
    raise ValueError(f"{what}: the value must be {' or '.join(map(_describe, kinds))}")


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return "numbers like " + ",".join("1" for _ in typing.get_args(kind))
    if kind is type(None):
        return "none"
    return "true or false" if kind is bool else f"of type {kind.__name__}"

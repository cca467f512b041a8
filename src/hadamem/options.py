"""Conversion of settings to their declared types: options of a memory or an environment, given on the command line as
name=value, and configurations that were saved as JSON."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

_UNIONS = (types.UnionType, typing.Union)  # the origins of `int | None` and of `Literal[...] | None`


def read_options(owner: str, texts: Sequence[str], allowed: Mapping[str, inspect.Parameter] | None) -> dict[str, Any]:
    """Parse options such as ["theta=fixed", "read_norm=true"] into values of the types that their parameters declare.

    Args:
        owner: whose options they are, for error messages, such as "memory 'shm'".
        texts: the options; if a name occurs twice, the later option counts.
        allowed: parameters by name, with evaluated annotations. None: all names are allowed, and values are read as Python
            literals, or as text where they are no literals.

    Raises:
        ValueError: an option is not of the form name=value, is unknown, or its value is not of the declared type.
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
    kinds = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
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
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(inner)
    if origin is list or (origin is tuple and ... in inner):
        return "a list"
    if origin is tuple:
        return "numbers like " + ",".join("1" for _ in inner)
    if kind is type(None):
        return "none"
    if origin is dict or dataclasses.is_dataclass(kind):
        return "an object"
    return "true or false" if kind is bool else f"of type {kind.__name__}"


def read_json(kind: Any, value: Any, name: str = "") -> Any:
    """Convert a value read from JSON to a type: a dataclass, a dict, list or tuple, a Literal, a union, or a plain type.

    Args:
        kind: the type.
        value: the value from JSON; fields that a dataclass has and `value` lacks get their defaults.
        name: name of the value in error messages; "" for the outermost one.

    Raises:
        ValueError: a field is unknown or has no default, or a value is not of its type or out of range.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    prefix = f"{name}." if name else ""
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        fields = _fields(typing.cast(Hashable, kind))
        if unknown := [prefix + field for field in value if field not in fields]:
            raise ValueError(f"there is no setting {' and no setting '.join(unknown)}")
        if missing := [prefix + field for field, (_, required) in fields.items() if required and field not in value]:
            raise ValueError(f"it lacks {' and '.join(missing)}")
        assert isinstance(kind, type)
        return kind(**{field: read_json(fields[field][0], item, prefix + field) for field, item in value.items()})
    if origin in _UNIONS:
        if value is None and type(None) in inner:
            return None
        *others, last = (k for k in inner if k is not type(None))
        for other in others:
            with contextlib.suppress(ValueError):
                return read_json(other, value, name)
        return read_json(last, value, name)
    if origin is dict and isinstance(value, dict):
        return {key: read_json(inner[1], item, prefix + key) for key, item in value.items()}
    if origin is list and isinstance(value, list):
        return [read_json(inner[0], item, name) for item in value]
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [inner[0]] * len(value) if ... in inner else inner
        if len(kinds) == len(value):
            return tuple(read_json(k, item, name) for k, item in zip(kinds, value, strict=True))
    if value in inner if origin is typing.Literal else type(value) in ((int, float) if kind is float else (kind,)):
        return value
    raise ValueError(f"{name or 'it'} is {value!r}; it must be {_describe(kind)}")


@functools.cache
def _fields(kind: Hashable) -> dict[str, tuple[Any, bool]]:
    """The fields of a dataclass: the type of each, and whether it has no default."""
    hints, none = typing.get_type_hints(kind), dataclasses.MISSING
    fields = dataclasses.fields(typing.cast(Any, kind))
    return {field.name: (hints[field.name], field.default is none and field.default_factory is none) for field in fields}

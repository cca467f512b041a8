"""Memories by name."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from typing import Any

from .base import Memory
from .delta_net import DeltaNet
from .framestack import FrameStack
from .fwp import FWP
from .mlp import MLP
from .positional_mlp import PositionalMLP
from .recurrent import GRU, LSTM
from .shm import SHM
from .slstm import SLSTM
from .transformer import GPT, GTrXL

#: Every memory, and the argument of its constructor that says how large it is.
MEMORIES: dict[str, tuple[type[Memory], str]] = {
    "shm": (SHM, "memory_size"),
    "gru": (GRU, "hidden_size"),
    "lstm": (LSTM, "hidden_size"),
    "mlp": (MLP, "hidden_size"),
    "slstm": (SLSTM, "hidden_size"),
    "fwp": (FWP, "memory_size"),
    "delta_net": (DeltaNet, "memory_size"),
    "gpt": (GPT, "hidden_size"),
    "gtrxl": (GTrXL, "hidden_size"),
    "framestack": (FrameStack, "hidden_size"),
    "positional_mlp": (PositionalMLP, "hidden_size"),
}


def memory_class(name: str) -> type[Memory]:
    """The class of that name, or a ValueError with the nearest names."""
    if name not in MEMORIES:
        near = difflib.get_close_matches(name, MEMORIES, n=3, cutoff=0.4) or list(MEMORIES)
        raise ValueError(f"no memory is called {name!r}; did you mean {' or '.join(near)}? All: {', '.join(MEMORIES)}")
    return MEMORIES[name][0]


def make_memory(name: str, input_size: int, output_size: int, size: int | None = None, **options: Any) -> Memory:
    """Build a memory by name.

    Args:
        name: a key of MEMORIES.
        input_size: features of its input.
        output_size: features of its output.
        size: how large it is, in its own measure (SHM: H of its H x H matrix; GRU: hidden units). Default: its own.
        options: the other keyword arguments of its constructor.

    Raises:
        ValueError: an unknown name or option.
    """
    cls = memory_class(name)
    allowed = memory_options(name)
    for option in options:
        if option not in allowed:
            raise ValueError(f"memory {name!r} has no option {option!r}; it has: {', '.join(allowed) or 'none'}")
    if size is not None:
        options[MEMORIES[name][1]] = size
    return cls(input_size, output_size, **options)


def memory_options(name: str) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a memory's constructor beside its sizes."""
    cls = memory_class(name)
    known = {"self", "input_size", "output_size", MEMORIES[name][1]}
    return {n: p for n, p in inspect.signature(cls.__init__).parameters.items() if n not in known}


def parse_options(name: str, texts: typing.Sequence[str]) -> dict[str, Any]:
    """Options from the command line, such as ["theta=fixed", "read_norm=true"], in the types the constructor declares.

    Raises:
        ValueError: not of the form name=value, unknown, or not of the declared type.
    """
    allowed = memory_options(name)
    hints = typing.get_type_hints(memory_class(name).__init__)
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key not in allowed:
            has = ", ".join(f"{n} (default {p.default})" for n, p in allowed.items()) or "none"
            raise ValueError(f"memory option {text!r}: must be name=value with a name that {name!r} has: {has}")
        options[key] = _convert(text, value, hints[key])
    return options


def _convert(text: str, value: str, hint: Any) -> Any:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value.lower() == "none" and type(None) in kinds:
        return None
    for kind in kinds:
        if typing.get_origin(kind) is typing.Literal:
            if value in typing.get_args(kind):
                return value
        elif kind is bool:
            if value.lower() in ("true", "false"):
                return value.lower() == "true"
        elif kind is not type(None):
            try:
                return kind(value)
            except ValueError:
                continue
    raise ValueError(f"memory option {text!r}: the value must be {hint if len(kinds) > 1 else _describe(kinds[0])}")


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(typing.get_args(kind))
    return "true or false" if kind is bool else f"of type {kind.__name__}"

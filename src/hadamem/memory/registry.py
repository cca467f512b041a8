"""Memories by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from ..options import read_options
from .base import Memory
from .mlp import MLP
from .recurrent import GRU, LSTM
from .shm import SHM

#: Every memory, and the argument of its constructor that says how large it is.
MEMORIES: dict[str, tuple[type[Memory], str]] = {
    "shm": (SHM, "memory_size"),
    "gru": (GRU, "hidden_size"),
    "lstm": (LSTM, "hidden_size"),
    "mlp": (MLP, "hidden_size"),
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
    return {n: p for n, p in inspect.signature(cls.__init__, eval_str=True).parameters.items() if n not in known}


def parse_options(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Options of a memory from the command line, see `hadamem.options`."""
    return read_options(f"memory {name!r}", texts, memory_options(name))

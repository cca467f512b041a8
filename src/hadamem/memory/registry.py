"""Memories by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from ..options import read_options
from .base import Memory
from .delta_net import DeltaNet
from .elman import Elman
from .ffm import FFM
from .framestack import FrameStack
from .fwp import FWP
from .gla import GLA
from .indrnn import IndRNN
from .linear_attention import LinearAttention
from .lmu import LMU
from .lru import LRU
from .mamba import Mamba
from .mingru import MinGRU
from .mlp import MLP
from .mlstm import MLSTM
from .positional_mlp import PositionalMLP
from .recurrent import GRU, LSTM
from .s5 import S5
from .shm import SHM
from .slstm import SLSTM
from .stack import Stack
from .transformer import GPT, GTrXL

#: Every memory, and the argument of its constructor that says how large it is.
MEMORIES: dict[str, tuple[type[Memory], str]] = {
    "shm": (SHM, "memory_size"),
    "gru": (GRU, "hidden_size"),
    "lstm": (LSTM, "hidden_size"),
    "elman": (Elman, "hidden_size"),
    "indrnn": (IndRNN, "hidden_size"),
    "mingru": (MinGRU, "hidden_size"),
    "lmu": (LMU, "hidden_size"),
    "ffm": (FFM, "trace_size"),
    "lru": (LRU, "state_size"),
    "s5": (S5, "state_size"),
    "mlp": (MLP, "hidden_size"),
    "mlstm": (MLSTM, "memory_size"),
    "slstm": (SLSTM, "hidden_size"),
    "mamba": (Mamba, "inner_size"),
    "linear_attention": (LinearAttention, "memory_size"),
    "gla": (GLA, "memory_size"),
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
        options: the other keyword arguments of its constructor, and `layers`: more than one makes it a `Stack` (those that
            have layers of their own know best what these are).

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
    if "layers" in inspect.signature(cls.__init__).parameters or (layers := options.pop("layers", 1)) == 1:
        return cls(input_size, output_size, **options)
    if layers < 1:
        raise ValueError(f"layers is {layers}; it must be at least 1")
    return Stack(input_size, output_size, [cls(output_size, output_size, **options) for _ in range(layers)])


def memory_options(name: str) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a memory's constructor beside its sizes, and how many layers."""
    cls = memory_class(name)
    known = {"self", "input_size", "output_size", MEMORIES[name][1]}
    options = {n: p for n, p in inspect.signature(cls.__init__, eval_str=True).parameters.items() if n not in known}
    layers = inspect.Parameter("layers", inspect.Parameter.KEYWORD_ONLY, default=1, annotation=int)
    return {"layers": layers, **options}


def parse_options(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Options of a memory from the command line, see `hadamem.options`."""
    return read_options(f"memory {name!r}", texts, memory_options(name))

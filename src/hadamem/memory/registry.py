"""Memories by name."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
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

#: The memories of hadamem. Installed packages add theirs by entry points in the group "hadamem.memories", see `memory_names`.
MEMORIES: dict[str, type[Memory]] = {
    "shm": SHM,
    "gru": GRU,
    "lstm": LSTM,
    "elman": Elman,
    "indrnn": IndRNN,
    "mingru": MinGRU,
    "lmu": LMU,
    "ffm": FFM,
    "lru": LRU,
    "s5": S5,
    "mlp": MLP,
    "mlstm": MLSTM,
    "slstm": SLSTM,
    "mamba": Mamba,
    "linear_attention": LinearAttention,
    "gla": GLA,
    "fwp": FWP,
    "delta_net": DeltaNet,
    "gpt": GPT,
    "gtrxl": GTrXL,
    "framestack": FrameStack,
    "positional_mlp": PositionalMLP,
}


def memory_names() -> list[str]:
    """The names of all memories: those of hadamem, then those of installed packages."""
    return [*MEMORIES, *(name for name in _added() if name not in MEMORIES)]


def memory_class(name: str) -> type[Memory]:
    """The class of the memory with this name.

    Raises:
        ValueError: there is no such memory, or another package's entry point of this name is not a memory.
    """
    if name in MEMORIES:
        return MEMORIES[name]
    if (there := _added().get(name)) is None:
        names = memory_names()
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
        raise ValueError(f"no memory is called {name!r}; did you mean {' or '.join(near)}? All: {', '.join(names)}")
    cls = there.load()
    if not (isinstance(cls, type) and issubclass(cls, Memory)):
        raise ValueError(f"memory {name!r} is {there.value}, which is no subclass of hadamem.memory.Memory")
    return cls


@functools.cache
def _added() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="hadamem.memories")}


def make_memory(name: str, input_size: int, output_size: int, size: int | None = None, **options: Any) -> Memory:
    """Build a memory by name.

    Args:
        name: one of `memory_names`.
        input_size: features of its input.
        output_size: features of its output.
        size: size of the memory, in its own unit (SHM: H of its H x H matrix; GRU: hidden units). Default: the memory's own.
        options: the other keyword arguments of its constructor, and `layers`: more than one layer makes a `Stack`, unless the
            memory has an argument `layers` itself.

    Raises:
        ValueError: a name or option is unknown, or `layers` is less than 1.
    """
    cls = memory_class(name)
    allowed = memory_options(name)
    for option in options:
        if option not in allowed:
            raise ValueError(f"memory {name!r} has no option {option!r}; it has: {', '.join(allowed) or 'none'}")
    if size is not None:
        options[cls.size_argument] = size
    if "layers" in inspect.signature(cls.__init__).parameters or (layers := options.pop("layers", 1)) == 1:
        return cls(input_size, output_size, **options)
    if layers < 1:
        raise ValueError(f"layers is {layers}; it must be at least 1")
    return Stack(input_size, output_size, [cls(output_size, output_size, **options) for _ in range(layers)])


def memory_options(name: str) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a memory's constructor except its sizes, and `layers`."""
    cls = memory_class(name)
    known = {"self", "input_size", "output_size", cls.size_argument}
    options = {n: p for n, p in inspect.signature(cls.__init__, eval_str=True).parameters.items() if n not in known}
    layers = inspect.Parameter("layers", inspect.Parameter.KEYWORD_ONLY, default=1, annotation=int)
    return {"layers": layers, **options}


def parse_options(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Options of a memory from the command line, see `hadamem.options`."""
    return read_options(f"memory {name!r}", texts, memory_options(name))

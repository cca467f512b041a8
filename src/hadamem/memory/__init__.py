"""Memories under one contract (`base.Memory`), found by name in `registry.MEMORIES`."""

from .base import Memory, State
from .mlp import MLP
from .recurrent import GRU, LSTM
from .registry import MEMORIES, make_memory, memory_class, memory_options, parse_options
from .shm import SHM

__all__ = [
    "GRU",
    "LSTM",
    "MEMORIES",
    "MLP",
    "SHM",
    "Memory",
    "State",
    "make_memory",
    "memory_class",
    "memory_options",
    "parse_options",
]

"""Memories under one contract (`base.Memory`), found by name in `registry.MEMORIES`."""

from .base import Memory, State
from .elman import Elman
from .ffm import FFM
from .indrnn import IndRNN
from .lmu import LMU
from .lru import LRU
from .mingru import MinGRU
from .mlp import MLP
from .recurrent import GRU, LSTM
from .registry import MEMORIES, make_memory, memory_class, memory_options, parse_options
from .s5 import S5
from .shm import SHM

__all__ = [
    "FFM",
    "GRU",
    "LMU",
    "LRU",
    "LSTM",
    "MEMORIES",
    "MLP",
    "S5",
    "SHM",
    "Elman",
    "IndRNN",
    "Memory",
    "MinGRU",
    "State",
    "make_memory",
    "memory_class",
    "memory_options",
    "parse_options",
]

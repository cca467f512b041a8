"""Memories under one contract (`base.Memory`), found by name in `registry.MEMORIES`."""

from .base import Memory, State
from .delta_net import DeltaNet
from .framestack import FrameStack
from .fwp import FWP
from .mlp import MLP
from .positional_mlp import PositionalMLP
from .recurrent import GRU, LSTM
from .registry import MEMORIES, make_memory, memory_class, memory_options, parse_options
from .shm import SHM
from .slstm import SLSTM
from .transformer import GPT, GTrXL

__all__ = [
    "FWP",
    "GPT",
    "GRU",
    "LSTM",
    "MEMORIES",
    "MLP",
    "SHM",
    "SLSTM",
    "DeltaNet",
    "FrameStack",
    "GTrXL",
    "Memory",
    "PositionalMLP",
    "State",
    "make_memory",
    "memory_class",
    "memory_options",
    "parse_options",
]

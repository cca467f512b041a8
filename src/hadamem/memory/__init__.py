"""Memories with one interface (`base.Memory`), listed by name in `registry.MEMORIES`."""

from .base import Memory, State
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
from .registry import MEMORIES, make_memory, memory_class, memory_names, memory_options, parse_options
from .s5 import S5
from .shm import SHM
from .slstm import SLSTM
from .stack import Stack
from .transformer import GPT, GTrXL

__all__ = [
    "FFM",
    "FWP",
    "GLA",
    "GPT",
    "GRU",
    "LMU",
    "LRU",
    "LSTM",
    "MEMORIES",
    "MLP",
    "MLSTM",
    "S5",
    "SHM",
    "SLSTM",
    "DeltaNet",
    "Elman",
    "FrameStack",
    "GTrXL",
    "IndRNN",
    "LinearAttention",
    "Mamba",
    "Memory",
    "MinGRU",
    "PositionalMLP",
    "Stack",
    "State",
    "make_memory",
    "memory_class",
    "memory_names",
    "memory_options",
    "parse_options",
]

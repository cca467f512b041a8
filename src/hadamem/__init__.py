"""hadamem: agents that remember. Stable Hadamard Memory and its peers for any Gymnasium environment."""

from .memory import GRU, LSTM, MEMORIES, MLP, SHM, Memory, make_memory
from .ops import hadamard_memory

__version__ = "0.1.0"
__all__ = ["GRU", "LSTM", "MEMORIES", "MLP", "SHM", "Memory", "hadamard_memory", "make_memory"]

"""hadamem: agents that remember. Stable Hadamard Memory and its peers for any Gymnasium environment."""

from . import memory as _memory
from .memory import *  # noqa: F403 (what it names in __all__)
from .ops import delta_memory, hadamard_memory, linear_recurrence

__version__ = "0.1.0"
__all__ = ["delta_memory", "hadamard_memory", "linear_recurrence"]
__all__ += _memory.__all__

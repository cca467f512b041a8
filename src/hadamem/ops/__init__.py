"""Recurrences as pure functions of tensors, each with a reference definition and several backends with the same results.

Dimension letters: B batch, T time, V rows of the memory (value axis, H_v), K columns of the memory (key axis, H_k).
"""

from .checks import BACKENDS
from .delta import delta_memory
from .hadamard import hadamard_memory
from .hadamard.observe import HadamardCall, observe_hadamard
from .linear import linear_recurrence
from .parallel import decaying_max
from .reference import CALIBRATIONS
from .slstm import slstm

__all__ = [
    "BACKENDS",
    "CALIBRATIONS",
    "HadamardCall",
    "decaying_max",
    "delta_memory",
    "hadamard_memory",
    "linear_recurrence",
    "observe_hadamard",
    "slstm",
]

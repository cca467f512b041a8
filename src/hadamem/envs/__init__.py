"""Vectors of any Gymnasium environment with float tensors as observations, fast batched tasks, and wrappers that make a task
require memory.

Importing this package registers the tasks of hadamem ("hadamem/Wind-v0", ...) with Gymnasium.
"""

from .batched import BatchedTask
from .border import EnvironmentFailedError
from .from_python import id_of
from .layout import Layout, Leaf
from .make import make_vector
from .tasks import list_tasks
from .vector import Episode, Transition, VectorEnvironment
from .wrappers import MaskVelocity, RepeatTrials

__all__ = [
    "BatchedTask",
    "EnvironmentFailedError",
    "Episode",
    "Layout",
    "Leaf",
    "MaskVelocity",
    "RepeatTrials",
    "Transition",
    "VectorEnvironment",
    "id_of",
    "list_tasks",
    "make_vector",
]

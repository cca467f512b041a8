"""From any Gymnasium id to float tensors, fast batched tasks, and wrappers that take away what makes memory needless.

Importing it registers the tasks of hadamem ("hadamem/Wind-v0", ...) with Gymnasium.
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

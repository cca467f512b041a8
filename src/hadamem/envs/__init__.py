"""From any Gymnasium id to float tensors, and fast batched versions of the POPGym memory tasks."""

from hadamem.envs.layout import Layout, Leaf
from hadamem.envs.tasks import list_tasks
from hadamem.envs.vector import Episode, Transition, VectorEnvironment, make_vector

__all__ = ["Episode", "Layout", "Leaf", "Transition", "VectorEnvironment", "list_tasks", "make_vector"]

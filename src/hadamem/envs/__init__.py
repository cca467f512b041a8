"""From any Gymnasium id to float tensors, and fast batched versions of the POPGym memory tasks."""

from .layout import Layout, Leaf
from .tasks import list_tasks
from .vector import Episode, Transition, VectorEnvironment, make_vector

__all__ = ["Episode", "Layout", "Leaf", "Transition", "VectorEnvironment", "list_tasks", "make_vector"]

"""Use of trained policies: acting in the environment's own spaces, packing a policy in one file, and other runtimes."""

from .acting import Acting, ActingState
from .limits import Limits
from .reading import read_trained
from .trained import Trained

__all__ = ["Acting", "ActingState", "Limits", "Trained", "read_trained"]

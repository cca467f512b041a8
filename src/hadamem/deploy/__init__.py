"""Trained policies in use: acting in the environment's own terms, one file for a policy, and other runtimes."""

from .acting import Acting, ActingState
from .limits import Limits
from .trained import Trained, read_trained

__all__ = ["Acting", "ActingState", "Limits", "Trained", "read_trained"]

"""Recording an episode of a trained agent, with the memory at every step, and showing it as a page or a video."""

from .recording import HadamardTrace, Recording, record
from .viewer import write_page

__all__ = ["HadamardTrace", "Recording", "record", "write_page"]

"""Looking inside a trained agent: an episode with the memory at every step, as a page or a video."""

from .recording import HadamardTrace, Recording, record
from .viewer import write_page

__all__ = ["HadamardTrace", "Recording", "record", "write_page"]

"""hadamem: agents that remember. Stable Hadamard Memory and its peers for any Gymnasium environment."""

import importlib
from typing import TYPE_CHECKING, Any

from .waiting import sleeping_soon

with sleeping_soon():
    import torch as _torch  # noqa: F401 (here, before anything else imports it)

from . import memory as _memory
from .memory import *  # noqa: F403 (the names in its __all__)
from .ops import delta_memory, hadamard_memory, linear_recurrence

if TYPE_CHECKING:
    from .agent import PPO, R2D2, SAC, load
    from .agents.config import TrainConfig
    from .agents.training import train

__version__ = "0.2.0"
__all__ = ["PPO", "R2D2", "SAC", "TrainConfig", "delta_memory", "hadamard_memory", "linear_recurrence", "load", "train"]
__all__ += _memory.__all__

# imported on first access: a memory alone needs no environments
_LATER = {
    **dict.fromkeys(("PPO", "R2D2", "SAC", "load"), "agent"),
    "TrainConfig": "agents.config",
    "train": "agents.training",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'hadamem' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hadamem.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})

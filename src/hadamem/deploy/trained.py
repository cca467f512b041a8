"""A trained policy with everything that is needed to act with it."""

from __future__ import annotations

from dataclasses import dataclass

from ..agents.config import TrainConfig
from ..envs.interface import Interface
from ..networks import Policy


@dataclass
class Trained:
    """A trained policy with its configuration and interface.

    Attributes:
        policy: the policy, in evaluation mode.
        config: configuration of its run, with the device of the training.
        interface: interface to the environment's own spaces.
        steps: number of environment steps that it was trained on.
    """

    policy: Policy
    config: TrainConfig
    interface: Interface
    steps: int

"""Reading a trained policy, wherever it is kept, without its environment."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass, replace
from typing import Any

from ..agents.config import TrainConfig, load_config
from ..agents.making import make_environment, make_policy
from ..agents.training import check_device, fitting
from ..envs.interface import Interface
from ..networks import Policy
from ..run import RunError, read_checkpoint
from .packed import is_packed, read_packed


@dataclass
class Trained:
    """A trained policy, and what is known of it.

    Attributes:
        policy: in evaluation mode.
        config: of its run; its device is the one that was trained on.
        interface: to the environment's own spaces.
        steps: environment steps it learned from.
    """

    policy: Policy
    config: TrainConfig
    interface: Interface
    steps: int


def read_trained(path: pathlib.Path, device: str = "cpu", env: str | None = None) -> Trained:
    """The trained policy of a run folder, or of a file that `hadamem pack` made.

    Args:
        path: of either.
        device: of the policy.
        env: an environment that it has to fit; None: none is made, unless a folder was written before spaces were kept.

    Raises:
        ValueError: it is neither, it is damaged, or the environment has other spaces.
    """
    check_device(device)
    named: dict[str, Any] = {} if env is None else {"env": env}
    if is_packed(path):
        packed = read_packed(path)
        config, weights, interface, steps = packed.config, packed.weights, packed.interface, packed.steps
        config, file = replace(config, **named), path
    else:
        config, checkpoint = replace(load_config(path), **named), read_checkpoint(path)
        weights, steps = checkpoint["agent"]["policy"], checkpoint["agent"]["step"]
        file = path / "checkpoint.pt"
        if "interface" in checkpoint:
            with fitting(file):
                interface = Interface.from_json(checkpoint["interface"])
        else:
            interface = _interface_of_old(path, config, checkpoint.get("spaces"))
    if env is not None:
        made = make_environment(config, 1, 0)
        try:
            made.require(interface.described)
        finally:
            made.close()
    with fitting(file):
        policy = make_policy(replace(config, device=device), interface)
        policy.load_state_dict(weights)
    return Trained(policy.eval(), config, interface, steps)


def _interface_of_old(path: pathlib.Path, config: TrainConfig, described: dict[str, str] | None) -> Interface:
    """Of a folder without spaces in it: the environment has to tell them."""
    try:
        made = make_environment(config, 1, 0)
    except Exception as error:
        raise RunError(
            f"{path} is of a version of hadamem that kept no spaces, and its environment {config.env} cannot be asked for "
            f"them: {error}"
        ) from error
    try:
        made.require(described or made.described)
        return made.interface
    finally:
        made.close()

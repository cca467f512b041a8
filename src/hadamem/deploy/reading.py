"""Reads trained policies from run folders and packed files, without needing the environment."""

from __future__ import annotations

import pathlib
from dataclasses import replace
from typing import Any

from ..agents.config import TrainConfig, load_config
from ..agents.making import make_environment, make_policy
from ..agents.training import check_device, fitting
from ..envs.interface import Interface
from ..run import RunError, read_checkpoint
from .packed import is_packed, read_packed
from .trained import Trained


def read_trained(path: pathlib.Path, device: str = "cpu", env: str | None = None) -> Trained:
    """The trained policy of a run folder, or of a file that `hadamem pack` made.

    Args:
        path: the run folder or the packed file.
        device: device of the policy.
        env: an environment that the policy has to fit; None: no environment is made, unless the folder was written by an old
            version that did not store spaces.

    Raises:
        ValueError: the path is neither, the file is damaged, or the environment has other spaces.
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
    """The interface for an old run folder without stored spaces: they are read from the environment."""
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

"""Packed policies: one file with the weights in the format of safetensors, and, as JSON in its metadata, everything else that
is needed to act.

Such a file holds only numbers and text, so reading it runs no code.
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import asdict, dataclass
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..agents.config import TrainConfig, config_from_dict
from ..disk import write_whole
from ..envs.interface import Interface
from ..run import RunError, versions
from .trained import Trained

_FORMAT = "hadamem policy 1"


@dataclass
class Packed:
    """The content of a packed policy; see `Trained`."""

    weights: dict[str, Tensor]
    config: TrainConfig
    interface: Interface
    steps: int


def is_packed(path: pathlib.Path) -> bool:
    """Whether the path is a file and so not a run folder. Only `read_packed` checks that the file is a packed policy."""
    return path.is_file()


def described(trained: Trained) -> dict[str, str]:
    """Everything about a policy except its weights, as texts by name (mostly JSON), for the metadata of a file."""
    parts: dict[str, Any] = {
        "config": asdict(trained.config),
        "interface": trained.interface.to_json(),
        "versions": versions(),
        "steps": trained.steps,
    }
    return {"format": _FORMAT} | {name: json.dumps(part, allow_nan=False) for name, part in parts.items()}


def write_packed(trained: Trained, path: pathlib.Path) -> None:
    """Write a policy to a packed file."""
    weights = {name: weight.cpu().contiguous().clone() for name, weight in trained.policy.state_dict().items()}
    write_whole(path, memoryview(save(weights, described(trained))))


def read_packed(path: pathlib.Path) -> Packed:
    """Read a packed policy.

    Raises:
        RunError: the file is not a packed policy, is damaged, or was written by another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            if not said.get("format", "").startswith("hadamem policy "):
                raise RunError(f"{path} is no policy of hadamem: `hadamem pack` makes such files")
            if said["format"] != _FORMAT:
                raise RunError(f"{path} is a {said['format']}; this version of hadamem reads {_FORMAT}")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is no whole policy of hadamem ({error}): `hadamem pack` makes such files") from error
    try:
        config, interface = config_from_dict(json.loads(said["config"])), Interface.from_json(json.loads(said["interface"]))
        return Packed(weights, config, interface, int(said["steps"]))
    except (KeyError, ValueError) as error:
        raise RunError.damaged(path, f"{type(error).__name__}: {error}") from error

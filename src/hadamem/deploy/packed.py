"""A policy in one file: its weights in safetensors' format, and in its metadata, as JSON, all that is needed to act with it.

Such a file holds numbers and texts only: reading it runs no code.
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..agents.config import TrainConfig, config_from_dict
from ..envs.interface import Interface
from ..run import RunError, versions, write_whole

if TYPE_CHECKING:
    from .trained import Trained

_FORMAT = "hadamem policy 1"


@dataclass
class Packed:
    """What is in such a file; see `Trained`."""

    weights: dict[str, Tensor]
    config: TrainConfig
    interface: Interface
    steps: int


def is_packed(path: pathlib.Path) -> bool:
    """Whether there is a file, which a run is not: whether it is of the right kind, `read_packed` says."""
    return path.is_file()


def described(trained: Trained) -> dict[str, str]:
    """All about a policy that is no weight, for the metadata of a file: names and texts, most of which are JSON."""
    parts: dict[str, Any] = {
        "config": asdict(trained.config),
        "interface": trained.interface.to_json(),
        "versions": versions(),
        "steps": trained.steps,
    }
    return {"format": _FORMAT} | {name: json.dumps(part, allow_nan=False) for name, part in parts.items()}


def write_packed(trained: Trained, path: pathlib.Path) -> None:
    """Write the file."""
    weights = {name: weight.cpu().contiguous().clone() for name, weight in trained.policy.state_dict().items()}
    write_whole(path, memoryview(save(weights, described(trained))))


def read_packed(path: pathlib.Path) -> Packed:
    """Read such a file.

    Raises:
        RunError: it is none, or damaged, or of another version.
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

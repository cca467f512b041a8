"""What experiments do with run folders."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from ..agents.training import TrainConfig, config_from_dict, evaluate_task, load_policy, seed_for, train
from ..run import read_config


def train_once(config: TrainConfig, path: pathlib.Path) -> dict[str, Any] | None:
    """Train into the folder `path`; a run that is there already is continued, or left as it is if complete.

    Returns:
        Its result.json; None if the user stopped the training.

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    result = path / "result.json"
    if path.exists() and config_from_dict(read_config(path)) != config:
        raise ValueError(f"{path} holds a run with other settings; give --out a new folder, or delete it")
    if not result.exists() and not train(config, path, resume=(path / "checkpoint.pt").exists()):
        return None
    return json.loads(result.read_text())


def evaluate_run(path: pathlib.Path, episodes: int) -> dict[str, Any]:
    """Greedy play of a finished run in fresh episodes, see `agents.evaluation`."""
    policy, config = load_policy(path)
    return evaluate_task(config, policy, seed_for(config.seed, "evaluation"), episodes)

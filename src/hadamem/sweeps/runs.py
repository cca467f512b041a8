"""Operations on run folders that experiments share: check, train and evaluate."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ..agents.config import TrainConfig, seed_for
from ..agents.progress import Progress
from ..agents.training import evaluate_task, load_policy, train
from ..report.results import config_key
from ..run import read_config


def check_run(config: TrainConfig, path: pathlib.Path) -> None:
    """Raise a ValueError if the folder holds a run with other settings that affect learning."""
    if (path / "config.json").exists() and config_key(saved := read_config(path)) != config_key(given := asdict(config)):
        saved, given = (json.loads(config_key(fields)) for fields in (saved, given))
        other = ", ".join(name for name in sorted(saved.keys() | given.keys()) if given.get(name) != saved.get(name))
        raise ValueError(f"{path} holds a run with other settings ({other}); give --out a new folder, or delete it")


def train_once(
    config: TrainConfig, path: pathlib.Path, progress: Callable[[str, int, int], Progress] = Progress
) -> dict[str, Any] | None:
    """Train a run in the folder `path`; an existing run is continued, or left unchanged if it is complete.

    Args:
        config: configuration of the run.
        path: folder of the run.
        progress: see `train`.

    Returns:
        The content of result.json; None if the user stopped the training.

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    check_run(config, path)
    result = path / "result.json"
    if not result.exists() and not train(config, path, (path / "config.json").exists(), progress):
        return None
    return json.loads(result.read_text())


def evaluate_run(path: pathlib.Path, episodes: int) -> dict[str, Any]:
    """Evaluate the policy of a finished run by greedy play in fresh episodes, see `agents.evaluation`."""
    policy, config = load_policy(path)
    return evaluate_task(config, policy, seed_for(config.seed, "evaluation"), episodes)

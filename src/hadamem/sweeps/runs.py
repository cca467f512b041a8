"""Operations on run folders that experiments share: check, train and evaluate."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from dataclasses import asdict

from ..agents.config import TrainConfig, seed_for
from ..agents.evaluation import Evaluation
from ..agents.progress import Progress
from ..agents.training import evaluate_task, load_policy, train
from ..report.results import Result, config_key, peek_result
from ..run import read_config


def check_run(config: TrainConfig, path: pathlib.Path) -> None:
    """Raise a ValueError if the folder holds a run with other settings that affect learning."""
    if (path / "config.json").exists() and config_key(saved := read_config(path)) != config_key(given := asdict(config)):
        saved, given = (json.loads(config_key(fields)) for fields in (saved, given))
        other = ", ".join(name for name in sorted(saved.keys() | given.keys()) if given.get(name) != saved.get(name))
        raise ValueError(f"{path} holds a run with other settings ({other}); give --out a new folder, or delete it")


def train_once(
    config: TrainConfig, path: pathlib.Path, progress: Callable[[str, int, int], Progress] = Progress
) -> Result | None:
    """Train a run in the folder `path`; an existing run is continued, or left unchanged if it is complete.

    Args:
        config: configuration of the run.
        path: folder of the run.
        progress: see `train`.

    Returns:
        The result of the run, with its latest metrics as scores; None if the user stopped the training.

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    check_run(config, path)
    if not (path / "result.json").exists() and not train(config, path, (path / "config.json").exists(), progress):
        return None
    return peek_result(path)


def evaluate_run(path: pathlib.Path, episodes: int) -> Evaluation:
    """Evaluate the policy of a finished run by greedy play in fresh episodes, see `agents.evaluation`."""
    policy, config = load_policy(path)
    return evaluate_task(config, policy, seed_for(config.seed, "evaluation"), episodes)

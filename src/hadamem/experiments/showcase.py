"""The main job of `make train`: an agent that remembers beside one that cannot, on a task that needs memory."""

from __future__ import annotations

import json
import pathlib
from dataclasses import replace
from typing import Any

import torch

from ..agents.evaluation import evaluate
from ..agents.training import config_from_dict, load_policy, make_environment, seed_for, train
from ..run import read_config, write_whole
from .curves import draw_curves
from .recipes import preset_config

TASK = "popgym-RepeatPreviousEasy-v0"
MEMORIES = ("shm", "mlp")


def showcase(out: pathlib.Path, steps: int, episodes: int, seed: int) -> list[dict[str, Any]] | None:
    """Train each memory for `steps`, evaluate it on `episodes` fresh episodes beside a random policy, write results.json and
    curves.png. Runs that are already there are continued, or left as they are if complete.

    Returns:
        Rows with policy, memory, mean, ci95, episodes and steps; None if the user stopped the training.
    """
    rows = []
    for memory in MEMORIES:
        path = out / memory
        config = replace(preset_config("fast", TASK, memory), steps=steps, seed=seed)
        if path.exists() and config_from_dict(read_config(path)) != config:
            raise ValueError(f"{path} holds a run with other settings; give --out a new folder, or delete it")
        if not (path / "result.json").exists() and not train(config, path, resume=(path / "checkpoint.pt").exists()):
            return None
        policy, config = load_policy(path)
        torch.manual_seed(seed_for(seed, "evaluation"))
        env = make_environment(config, min(episodes, 50), seed_for(seed, "evaluation"))
        result = evaluate(env, policy, episodes)
        taken = json.loads((path / "result.json").read_text())["steps"]
        rows.append({"policy": "trained", "memory": memory, "steps": taken, **_kept(result)})
    env = make_environment(config, min(episodes, 50), seed_for(seed, "evaluation"))
    rows.append({"policy": "random", "memory": "none", "steps": 0, **_kept(evaluate(env, None, episodes))})
    write_whole(out / "results.json", json.dumps(rows, indent=2))
    labels = ["Stable Hadamard Memory", "no memory (mlp)"]
    draw_curves([out / memory for memory in MEMORIES], out / "curves.png", labels=labels)
    return rows


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("mean", "ci95", "episodes")}

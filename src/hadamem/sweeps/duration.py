"""Estimates how long runs will take, from the results of similar runs, or from a short measurement."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..agents.config import TrainConfig
from ..agents.making import Agent, make_agent, make_environment
from ..report.results import config_key, find_results
from .sweep import SweepRun

_STEPS = 2048  # largest number of steps of a measured iteration of PPO, so that 30 epochs take seconds, not minutes
_UPDATES = 4  # number of updates in a measured iteration of SAC or R2D2
_OF_TASKS = ("env", "env_options", "evaluate_options")


@dataclass(frozen=True)
class Duration:
    """The estimated duration of the runs that are waiting.

    Attributes:
        seconds: total time of these runs, one after the other.
        results: number of results that the estimate is based on.
        measured: number of short measurements that the estimate is based on.
    """

    seconds: float
    results: int
    measured: int


def expected(cells: Sequence[SweepRun], data: pathlib.Path | None, on_progress: Callable[[str], None]) -> Duration:
    """Estimate the duration of the waiting runs: from results of runs with the same settings (any seed, any number of steps);
    otherwise from results that differ only in the task; otherwise by measuring an iteration on the first task with these
    settings.

    Args:
        cells: the runs of a sweep.
        data: folder of results; None: no folder.
        on_progress: called with the name of each measurement.
    """
    found = find_results([data]) if data is not None and data.exists() else []
    there = {result.key for result in found}
    found += [cell.result for cell in cells if cell.state == "kept" and cell.result and cell.result.key not in there]
    known: dict[str, list[float]] = {}
    for result in found:
        if result.steps:
            for key in _keys(result.config):
                known.setdefault(key, []).append(result.seconds / result.steps)
    seconds, used, measured = 0.0, set[str](), set[str]()
    for cell in cells:
        if cell.state != "waiting":
            continue
        cell.peek()
        left = cell.config.steps - (cell.result.steps if cell.result is not None else 0)
        keys = _keys(asdict(cell.config))
        key = next((key for key in keys if key in known), keys[-1])
        if key not in known:
            on_progress(f"{cell.memory} on {cell.task}")
            known[key] = [measure(cell.config)]
            measured.add(key)
        used.add(key)
        seconds += left * sum(known[key]) / len(known[key])
    return Duration(seconds, sum(len(known[key]) for key in used - measured), len(measured))


def measure(config: TrainConfig) -> float:
    """Seconds per environment step, measured in a shorter iteration of acting and learning than the training has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads or threads)
    if config.ppo is not None:
        num_steps = min(config.ppo.num_steps, max(1, _STEPS // config.ppo.num_envs))
        config = replace(config, ppo=replace(config.ppo, num_steps=num_steps))
    if (replayed := config.off_policy) is not None:
        per_step = replayed.updates_per_step * replayed.num_envs
        num_steps = min(replayed.num_steps, max(1, round(_UPDATES / per_step)))
        changes: dict[str, Any] = {config.agent: replace(replayed, num_steps=num_steps, warmup_steps=0)}
        config = replace(config, **changes)
    env = make_environment(config, config.algorithm.num_envs, 0)
    agent = make_agent(config, env)
    try:
        while not _learns(agent):  # with a replay, learning begins when the first episode has ended
            pass
        before, begin = agent.step, time.perf_counter()
        _learns(agent)
        return (time.perf_counter() - begin) / (agent.step - before)
    finally:
        env.close()
        torch.set_num_threads(threads)


def _learns(agent: Agent) -> bool:
    """Make one iteration, and return whether it learned. A loss that is not finite is ignored, since it takes as long."""
    try:
        return bool({"policy_loss", "actor_loss", "q_loss"} & agent.iterate().keys())
    except FloatingPointError:
        return True


def _keys(config: dict[str, Any]) -> list[str]:
    """Two keys of the settings that determine how long a step takes: with the task, and without it."""
    fields = {name: value for name, value in json.loads(config_key(config)).items() if name not in ("seed", "steps")}
    without = {name: value for name, value in fields.items() if name not in _OF_TASKS}
    return [json.dumps(fields), json.dumps(without)]

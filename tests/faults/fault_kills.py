"""Trainings that are killed at a random moment, and go on."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import signal
import time
import traceback

from fault_folders import Silent

from hadamem.agents import PPOConfig, SACConfig, TrainConfig, train
from hadamem.run import read_metrics

_STEPS = 640


def run(seed: int, folder: pathlib.Path) -> str | None:
    """Up to three kills, then a run to the end: all metrics are there, each once, and the result is that of all steps."""
    draw = random.Random(seed)
    path = folder / "run"
    sac = draw.random() < 0.3
    config = TrainConfig(
        env=draw.choice(["popgym-RepeatPreviousEasy-v0", "CartPole-v1", "hadamem/TMazePassive-v0"]),
        agent="sac" if sac else "ppo",
        memory=draw.choice(["gru", "shm", "mlp"]),
        memory_size=4,
        steps=_STEPS,
        threads=1,
        seed=seed,
        checkpoint_every=draw.choice([0.0, 0.05, 10.0]),
        ppo=None if sac else PPOConfig(num_envs=4, num_steps=16, epochs=1, minibatches=1),
        sac=SACConfig(num_envs=4, num_steps=16, warmup_steps=64, updates_per_step=0.02, batch_size=4) if sac else None,
    )
    signals = []
    for _ in range(draw.randint(1, 3)):
        number = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
        signals.append(signal.Signals(number).name)
        problem = _train(config, path, number, draw.uniform(0.0, 0.6))
        if problem is not None:
            return f"{config.env} {config.agent} {config.memory}, {signals}: {problem}"
    what = f"{config.env} {config.agent} {config.memory}, killed by {signals}"
    if (problem := _train(config, path, None, 0.0)) is not None:
        return f"{what}: it does not go on: {problem}"
    result = json.loads((path / "result.json").read_text())
    if result["steps"] < _STEPS:
        return f"{what}: the result is that of {result['steps']} steps"
    steps = [line["step"] for line in read_metrics(path)]
    if sorted(set(steps)) != steps or steps[-1] != result["steps"]:
        return f"{what}: metrics of the steps {steps}"
    return None


def _train(config: TrainConfig, path: pathlib.Path, kill: int | None, after: float) -> str | None:
    """Train in a forked process, which is killed `after` seconds unless it has ended; what it said if it failed by itself."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        try:
            train(config, path, resume=(path / "config.json").exists(), progress=Silent)
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-2000:])
            os._exit(1)
        os._exit(0)
    os.close(writer)
    if kill is not None:
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, kill)
    with open(reader, "rb") as said:
        text = said.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) or (kill is not None and "KeyboardInterrupt" in text):
        return None  # as it was asked to
    return text or None

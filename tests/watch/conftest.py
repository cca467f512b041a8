"""Small runs to look into, trained for an instant."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from hadamem.agents import PPOConfig, TrainConfig, train
from hadamem.agents.training import load_policy
from hadamem.watch import Recording, record

Recorded = Callable[..., Recording]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """(env, memory, memory options, env options, steps) -> a recording; made once a session."""
    made: dict[tuple, Recording] = {}

    def get(env: str, memory: str, options: tuple = (), env_options: tuple = (), steps: int = 300) -> Recording:
        key = env, memory, options, env_options, steps
        if key not in made:
            made[key] = record(*load_policy(_train(tmp_path_factory.mktemp("run") / "run", *key[:4])), 0, steps)
        return made[key]

    return get


@pytest.fixture
def small_run() -> Callable[..., pathlib.Path]:
    """(folder, env, memory, memory options, env options) -> the folder of a run."""
    return _train


def _train(path: pathlib.Path, env: str, memory: str, options: tuple = (), env_options: tuple = ()) -> pathlib.Path:
    ppo = PPOConfig(num_envs=2, num_steps=16, minibatches=1, epochs=1)
    size = 8 if memory != "mlp" else None
    train(TrainConfig(env, env_options, "ppo", memory, size, options, steps=32, ppo=ppo), path)
    return path

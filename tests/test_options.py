"""Settings from JSON, in the types that are declared for them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from hadamem.agents.config import TrainConfig
from hadamem.agents.sac import SACConfig
from hadamem.options import read_json


@pytest.mark.parametrize("config", [TrainConfig(env_options=("a=1",)), TrainConfig(agent="sac", sac=SACConfig(tau=1))])
def test_there_and_back(config: TrainConfig) -> None:
    assert read_json(TrainConfig, json.loads(json.dumps(asdict(config)))) == config
    assert read_json(TrainConfig, asdict(config)) == config


def test_what_is_younger_than_a_configuration_has_its_default() -> None:
    saved = asdict(TrainConfig())
    del saved["evaluate_every"], saved["ppo"]["network"]
    assert read_json(TrainConfig, saved) == TrainConfig()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"foreign": 1}, "there is no setting foreign"),
        ({"ppo": {"foreign": 1, "other": 2}}, "there is no setting ppo.foreign and no setting ppo.other"),
        ({"steps": "many"}, "steps is 'many'; it must be of type int"),
        ({"steps": True}, "steps is True; it must be of type int"),
        ({"steps": -5}, "steps is -5; it must be at least 1"),
        ({"memory_size": 1.5}, "memory_size is 1.5; it must be of type int"),
        ({"agent": "dqn"}, "agent is 'dqn'; it must be one of ppo, sac, r2d2"),
        ({"env_options": "a=1"}, "env_options is 'a=1'; it must be a list"),
        ({"ppo": [1]}, r"ppo is \[1\]; it must be an object"),
        ({"checkpoint_every": float("nan")}, "checkpoint_every is nan; it must be at least 0"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}$"):
        read_json(TrainConfig, changes)

"""The default recipe: the rollout follows from the steps of the run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hadamem.agents.config import TrainConfig
from hadamem.agents.sac import SACConfig
from hadamem.agents.training import few_updates
from hadamem.recipes.arguments import read_train
from hadamem.recipes.presets import preset_config, rollout_size


@pytest.mark.parametrize("steps", [12_800, 20_000, 50_000, 100_000, 299_999, 1_000_000, 15_000_000])
def test_a_run_makes_enough_updates_and_longer_runs_have_larger_rollouts(steps: int) -> None:
    size, longer = rollout_size(steps), rollout_size(4 * steps)
    assert 50 * size["num_envs"] * size["num_steps"] <= steps
    assert size["num_envs"] % size["minibatches"] == 0
    assert longer["num_envs"] * longer["num_steps"] >= size["num_envs"] * size["num_steps"]
    assert few_updates(preset_config("fast", "CartPole-v1", "gru", steps)) is None


def test_the_command_line_follows_the_rule_and_wins_over_it() -> None:
    config = read_train(["--env", "CartPole-v1", "--steps", "100000", "--num-envs", "8"]).config
    assert config.ppo.num_envs == 8 != rollout_size(100_000)["num_envs"]
    assert config.ppo.num_steps == rollout_size(100_000)["num_steps"]


def test_a_run_of_few_updates_is_told_what_to_change() -> None:
    config = preset_config("fast", "CartPole-v1", "gru", 1_000_000)
    rollout = config.ppo.num_envs * config.ppo.num_steps
    told = few_updates(replace(config, steps=10 * rollout))
    assert told.startswith(f"{10 * rollout:,} steps allow only 10 updates")
    assert f"raise --steps to {50 * rollout:,}, or lower --num-envs or --num-steps" in told
    warm = TrainConfig("CartPole-v1", agent="sac", steps=4_000, sac=SACConfig(warmup_steps=5_000, updates_per_step=0.1))
    assert "allow only 0 updates" in few_updates(warm)
    assert "raise --steps to 5,500, or lower --warmup-steps" in few_updates(warm)
    assert few_updates(replace(warm, steps=5_500)) is None

"""Training with products of matrices in bfloat16."""

from __future__ import annotations

import math
import pathlib

import pytest
import torch

import hadamem
from hadamem.agents.making import make_agent, make_share
from hadamem.agents.training import load_policy
from hadamem.networks.precision import Narrowed, set_precision
from hadamem.recipes.arguments import read_train

SMALL = ["--env", "Pendulum-v1", "--num-envs", "4", "--num-steps", "210", "--steps", "2000", "--precision", "bfloat16"]
LEARN = {
    "ppo": ["--minibatches", "2", "--epochs", "2"],
    "sac": ["--agent", "sac", "--warmup-steps", "800", "--batch-size", "4", "--updates-per-step", "0.005"],
}


@pytest.mark.parametrize("memory", ["shm", "gru", "lstm", "mamba"])
@pytest.mark.parametrize("kind", LEARN)
def test_features_are_narrow_and_what_is_learned_is_float32(kind: str, memory: str) -> None:
    config = read_train([*SMALL, *LEARN[kind], "--memory", memory]).config
    agent = make_agent(config, make_share(config, 0))
    policy, state = agent.policy, agent.actor.state
    before = {name: weight.clone() for name, weight in policy.named_parameters()}

    metrics = agent.iterate()

    assert metrics.get("ratio_error", 0.0) < 0.05
    assert math.isfinite(metrics["value_loss" if kind == "ppo" else "critic_loss"])
    changes = {name: weight - before[name] for name, weight in policy.named_parameters()}
    assert all(change.dtype == torch.float32 and change.isfinite().all() for change in changes.values())
    assert any(change.any() for change in changes.values())
    assert {name: leaf.dtype for name, leaf in agent.actor.state.items()} == {n: leaf.dtype for n, leaf in state.items()}

    obs, start = torch.randn(4, 9, agent.actor.obs.shape[1]), torch.zeros(4, 9, dtype=torch.bool)
    narrow, wide = (_parameters(policy, precision, obs, state, start) for precision in ("bfloat16", "float32"))
    assert not torch.equal(narrow, wide)
    torch.testing.assert_close(narrow, wide, rtol=0.05, atol=0.05)


def _parameters(policy: torch.nn.Module, precision: str, *inputs: object) -> torch.Tensor:
    set_precision(policy, precision)
    return policy.distribution(*inputs)[0]


def test_the_trained_policy_acts_in_float32(tmp_path: pathlib.Path) -> None:
    agent = hadamem.PPO("gru", "CartPole-v1", memory_size=8, num_envs=4, num_steps=16, minibatches=2, precision="bfloat16")
    agent.learn(64, out=tmp_path / "run")
    policy, _ = load_policy(tmp_path / "run")
    assert {part.precision for part in policy.modules() if isinstance(part, Narrowed)} == {"float32"}

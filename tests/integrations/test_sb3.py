"""sb3-contrib's RecurrentPPO with our memories: one pass equals steps, and it trains, predicts and is saved."""

from __future__ import annotations

import pathlib

import gymnasium
import numpy as np
import pytest
import torch

pytest.importorskip("sb3_contrib", reason="needs hadamem[peers]")

from sb3_contrib import RecurrentPPO

from hadamem.integrations.sb3 import MemoryAsLSTM, MemoryMultiInputPolicy, MemoryPolicy
from hadamem.memory import MEMORIES, make_memory

STATELESS = {"mlp"}


@pytest.mark.parametrize("name", [name for name in MEMORIES if name not in STATELESS])
def test_a_pass_with_resets_equals_steps(name: str) -> None:
    torch.manual_seed(0)
    lstm = MemoryAsLSTM(make_memory(name, 5, 8, 8), 5).eval()
    x, start = torch.randn(3, 9, 5), torch.rand(3, 9) < 0.3
    zeros = torch.zeros(1, 3, lstm.hidden_size)
    states, ys = (zeros, zeros), []
    for t in range(9):
        y, states = lstm(x[:, t : t + 1], states, start[:, t : t + 1])
        ys.append(y)
    whole, after = lstm(x, (zeros, zeros), start)
    torch.testing.assert_close(whole, torch.cat(ys, dim=1), rtol=1e-3, atol=1e-4)
    known = [torch.cat(part, dim=2)[0, :, 0] for part in (states, after)]
    assert all((part == 1).all() for part in known)


def test_learning_changes_the_memory() -> None:
    kwargs = {"memory": "gru", "memory_size": 16, "lstm_hidden_size": 16}
    model = RecurrentPPO(MemoryPolicy, "CartPole-v1", n_steps=64, batch_size=64, policy_kwargs=kwargs, seed=0, n_epochs=4)
    before = [weight.clone() for weight in model.policy.lstm_actor.parameters()]
    model.learn(256)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.lstm_actor.parameters(), strict=True))


def test_it_predicts_with_a_state_and_is_saved(tmp_path: pathlib.Path) -> None:
    kwargs = {"memory": "shm", "memory_size": 8, "memory_options": {"theta": "random"}, "lstm_hidden_size": 16}
    model = RecurrentPPO(MemoryPolicy, "CartPole-v1", n_steps=32, batch_size=32, policy_kwargs=kwargs, seed=0)
    model.learn(64)
    model.save(tmp_path / "model.zip")
    again = RecurrentPPO.load(tmp_path / "model.zip")
    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=0)
    states, begins = [None, None], np.ones(1, bool)
    for _ in range(10):
        found = [
            one.predict(observation, state, begins, deterministic=True)
            for one, state in zip((model, again), states, strict=True)
        ]
        assert found[0][0] == found[1][0]
        states, begins = [state for _, state in found], np.zeros(1, bool)
        observation, *_ = env.step(int(found[0][0]))
    assert states[0][0].shape == (1, 1, model.policy.lstm_actor.hidden_size)


def test_dict_observations() -> None:
    class Both(gymnasium.ObservationWrapper):
        def __init__(self, env: gymnasium.Env) -> None:
            super().__init__(env)
            self.observation_space = gymnasium.spaces.Dict({"all": env.observation_space})

        def observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
            return {"all": observation}

    model = RecurrentPPO(
        MemoryMultiInputPolicy, Both(gymnasium.make("CartPole-v1")), n_steps=32, batch_size=32,
        policy_kwargs={"memory": "ffm", "memory_size": 4},
    )  # fmt: skip
    model.learn(64)

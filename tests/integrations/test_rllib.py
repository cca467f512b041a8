"""Memories inside RLlib: a sequence is its steps, and its PPO trains with them."""

from __future__ import annotations

import pathlib
import runpy
import sys

import numpy as np
import pytest
import torch
from gymnasium import spaces

pytest.importorskip("ray.rllib", reason="takes pip install 'hadamem[rllib]'")

from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from hadamem.integrations.rllib import MemoryRLModule
from hadamem.memory import MEMORIES

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "rllib_ppo.py"


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize(
    "observation_space", [spaces.Box(-1, 1, (2, 3), np.float32), spaces.Discrete(5)], ids=["Box", "Discrete"]
)
def test_a_sequence_is_its_steps(memory: str, observation_space: spaces.Space) -> None:
    torch.manual_seed(0)
    module = RLModuleSpec(
        MemoryRLModule,
        observation_space=observation_space,
        action_space=spaces.Discrete(3),
        model_config={"memory": memory, "memory_size": 8, "features": 8, "max_seq_len": 7},
    ).build()
    B, T = 2, 7
    obs = torch.from_numpy(np.stack([[observation_space.sample() for _ in range(T)] for _ in range(B)]))
    state = {name: torch.from_numpy(np.stack([leaf] * B)) for name, leaf in module.get_initial_state().items()}
    whole = module.forward_train({Columns.OBS: obs, Columns.STATE_IN: state})
    for t in range(T):
        step = module.forward_inference({Columns.OBS: obs[:, t : t + 1], Columns.STATE_IN: state})
        state = step[Columns.STATE_OUT]
        want = whole[Columns.ACTION_DIST_INPUTS][:, t : t + 1]
        torch.testing.assert_close(step[Columns.ACTION_DIST_INPUTS], want, rtol=1e-4, atol=1e-5)
    assert module.compute_values({}, whole[Columns.EMBEDDINGS]).shape == (B, T)


def test_the_example_trains(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(sys, "argv", [EXAMPLE.name, "--steps", "512", "--batch", "512"])
    try:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    finally:
        ray.shutdown()
    assert "512 steps, return " in capsys.readouterr().out

"""Memories inside TorchRL: what is played step by step, and what is learned from in one go, are the same numbers."""

from __future__ import annotations

import pathlib
import runpy
import sys

import pytest
import torch
from torch import nn

pytest.importorskip("torchrl", reason="takes pip install 'hadamem[torchrl]'")

from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.envs import Compose, GymEnv, InitTracker, SerialEnv, TransformedEnv
from torchrl.modules import set_recurrent_mode

from hadamem.integrations.torchrl import MemoryModule
from hadamem.memory import MEMORIES

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "torchrl_ppo.py"


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_sequence_is_its_steps(memory: str, layers: int) -> None:
    """With episodes that begin within it, from a state in the middle of one, in several environments."""
    torch.manual_seed(0)
    module = MemoryModule(memory, 8, 6, 8, layers=layers)
    embed = TensorDictModule(nn.Linear(4, 8), in_keys=["observation"], out_keys=["embed"])
    network = TensorDictSequential(embed, module, TensorDictModule(nn.Linear(6, 2), in_keys=["features"], out_keys=["logits"]))
    one_hot = TensorDictModule(lambda x: nn.functional.one_hot(x.argmax(-1), 2), in_keys=["logits"], out_keys=["action"])

    def make() -> TransformedEnv:
        return TransformedEnv(GymEnv("CartPole-v1"), Compose(InitTracker(), module.make_tensordict_primer()))

    env = SerialEnv(3, make)
    played = env.rollout(60, TensorDictSequential(network, one_hot), break_when_any_done=False)[:, 5:]
    assert played["is_init"][:, 1:].any()
    with set_recurrent_mode(True):
        learned = network(played.exclude("features", "logits").copy())
    torch.testing.assert_close(learned["logits"], played["logits"], rtol=1e-4, atol=1e-5)
    learned["logits"].square().sum().backward()
    assert all(weight.grad is not None for weight in embed.parameters())


def test_the_example_trains(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [EXAMPLE.name, "--steps", "1024", "--num-envs", "4"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "1024 steps, return " in capsys.readouterr().out

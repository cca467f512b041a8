"""Exported policies: every memory, every kind of space, in ONNX Runtime and by torch.export, beside PyTorch."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from games import GAMES, Clipped, Game, Nested, Pictures
from test_acting import SMALL, play, same, trained
from torch import Tensor, nn

import hadamem
from hadamem.agents.config import TrainConfig
from hadamem.agents.making import make_environment, make_policy
from hadamem.agents.ppo import PPOConfig
from hadamem.cli.main import run_command
from hadamem.deploy import Trained, export
from hadamem.deploy.export import ExportError, export_onnx, export_torch, record
from hadamem.envs.interface import Interface
from hadamem.memory import MEMORIES, Memory, State
from hadamem.networks.actor_critic import NetworkConfig

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "onnx_play.py"
TINY = PPOConfig(network=NetworkConfig(embed_size=8, hidden_size=8, memory_output_size=8, position_code=False))


@pytest.fixture(scope="module", autouse=True)
def one_registry() -> Iterator[None]:
    """torch reads the sources of all ONNX functions anew for every export, which takes a third of these tests' time."""
    with pytest.MonkeyPatch.context() as patch:
        with contextlib.suppress(ImportError, AttributeError):  # it is torch's own affair where they are
            registry = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
            patch.setattr(registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib)))
        yield


def untrained(game: type[Game], memory: str, options: tuple[str, ...] = (), **more: Any) -> Trained:
    torch.manual_seed(0)
    config = TrainConfig(env=f"games:{game.__name__}", memory=memory, memory_options=options, ppo=TINY, **more)
    env = make_environment(config, 1, 0)
    policy = make_policy(config, env).eval()
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return Trained(policy, config, env.interface, 0)


@pytest.mark.parametrize("memory", MEMORIES)
def test_every_memory_in_both_formats(memory: str, tmp_path: pathlib.Path) -> None:
    recorded = record(untrained(Game, memory))
    for write, file in ((export_onnx, tmp_path / "policy.onnx"), (export_torch, tmp_path / "policy.pt2")):
        assert write(recorded, file, 20) < 1e-5
        assert file.stat().st_size > 1000
    assert not any(node.domain == "hadamem" for node in onnx.load(tmp_path / "policy.onnx").graph.node)


@pytest.mark.parametrize("memory", ["shm", "gru", "ffm"])  # all of them: `hadamem bench export`
def test_a_sequence_equals_its_steps(memory: str, tmp_path: pathlib.Path) -> None:
    recorded = record(untrained(Game, memory, inputs=("obs", "action", "reward")), 6)
    for write, file in ((export_onnx, tmp_path / "policy.onnx"), (export_torch, tmp_path / "policy.pt2")):
        assert write(recorded, file, 18) < 1e-5
    shapes = {
        node.name: [d.dim_value for d in node.type.tensor_type.shape.dim][1:]
        for node in onnx.load(file.with_suffix(".onnx")).graph.input
    }
    assert shapes["start"] == [6]
    assert shapes["previous_action"][0] == 6


def test_what_only_a_sequence_asks_of_onnx(tmp_path: pathlib.Path) -> None:
    recorded = record(untrained(Game, "delta_net"), 6)
    with pytest.raises(ExportError, match=r"delta_net cannot be exported to ONNX: .*linalg_solve_triangular"):
        export_onnx(recorded, tmp_path / "policy.onnx")
    assert export_torch(recorded, tmp_path / "policy.pt2", 12) < 1e-5


def test_options_of_the_flagship(tmp_path: pathlib.Path) -> None:
    options = ("layers=2", "theta=centred", "heads=2", "convolution=3", "clamp=10")
    assert export_onnx(record(untrained(Game, "shm", options)), tmp_path / "policy.onnx", 20) < 1e-5


@pytest.mark.parametrize("game", GAMES[1:])
def test_every_kind_of_space(game: type[Game], tmp_path: pathlib.Path) -> None:
    recorded = record(untrained(game, "mlp", inputs=("obs", "action", "reward")))
    assert export_torch(recorded, tmp_path / "policy.pt2", 50) < 1e-5
    if game in (Pictures, Nested):
        assert export_onnx(recorded, tmp_path / "policy.onnx", 50) < 1e-5


def test_actions_played_as_one(tmp_path: pathlib.Path) -> None:
    recorded = record(untrained(Pictures, "mlp", joint_actions=True))
    assert export_torch(recorded, tmp_path / "policy.pt2", 50) < 1e-5


@pytest.mark.parametrize("game", [Game, Clipped])
def test_soft_actor_critic(game: type[Game], tmp_path: pathlib.Path) -> None:
    small = {"num_envs": 2, "num_steps": 10, "warmup_steps": 20, "batch_size": 2, "updates_per_step": 0.1, "hidden_sizes": (8,)}
    agent = hadamem.SAC("gru", game, memory_size=4, reward_embed=2, **small)
    agent.learn(40)
    assert export_torch(record(agent._read()), tmp_path / "policy.pt2", 50) < 1e-5


def test_the_example_plays_the_actions_of_the_agent(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With numpy, onnxruntime and gymnasium alone."""
    run, file = tmp_path / "run", tmp_path / "policy.onnx"
    agent = trained(Clipped, run, "gru", inputs=("obs", "action", "reward"))
    run_command(["export", str(run), "--out", str(file), "--steps", "20"])
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    from onnx_play import OnnxPolicy  # type: ignore[import-not-found]

    policy = OnnxPolicy(str(file))
    config = json.loads(policy.about["config"])
    assert (config["memory"], config["env"]) == ("gru", "games:Clipped")
    assert Interface.from_json(json.loads(policy.about["interface"])).described == agent._read().interface.described
    policy.config = agent.config
    assert all(map(same, play(policy, Clipped, 3, 2), play(agent, Clipped, 3, 2)))


def test_the_example_reaches_the_return_of_the_evaluation(tmp_path: pathlib.Path) -> None:
    run, file = tmp_path / "run", tmp_path / "policy.onnx"
    agent = hadamem.PPO("shm", "CartPole-v1", memory_size=4, embed_size=16, hidden_size=16, **SMALL)
    agent.learn(64, out=run)
    run_command(["export", str(run), "--out", str(file), "--steps", "20"])
    code = f"import sys, runpy; sys.argv = ['onnx_play.py', {str(file)!r}, '--episodes', '3']\n"
    code += f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')\n"
    code += "assert not {'torch', 'hadamem'} & sys.modules.keys()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "ppo with shm, trained on CartPole-v1" in done.stdout
    assert "in 3 episodes" in done.stdout


def test_a_draw_from_the_outputs_is_the_distribution() -> None:
    """mean and std are in the environment's units."""
    made = untrained(Clipped, "mlp")
    recorded = record(made)
    given = {"obs.place": torch.tensor([0]), "obs.speed": torch.zeros(1, 2, 2), "start": torch.tensor([True])}
    given["state.position"] = torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        played = recorded.program.module()(*(given[field.name] for field in recorded.step.inputs))
    outputs = dict(zip(recorded.step.outputs, (output.numpy() for output in played), strict=True))
    head: Any = made.policy.head
    assert np.allclose(outputs["std"], (head.scale * head.log_std.exp()).detach().numpy())
    space: Any = Clipped.action_space
    assert np.allclose(np.clip(outputs["mean"], space.low, space.high), outputs["action"])


def test_the_file_of_torch(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "policy.pt2"
    export_torch(record(untrained(Game, "lru")), file, 5)
    extra = {"hadamem.json": ""}
    program = torch.export.load(file, extra_files=extra)
    said = json.loads(extra["hadamem.json"])
    names = json.loads(said["inputs"])
    assert names == ["obs", "start", "state.position", "state.hidden"]
    N = 5
    outputs = program.module()(
        torch.zeros(N, 3, dtype=torch.float64),
        torch.ones(N, dtype=torch.bool),
        torch.zeros(N, dtype=torch.int64),
        torch.zeros(N, 64, 2),
    )
    assert dict(zip(json.loads(said["outputs"]), outputs, strict=True))["action"].shape == (N,)


class Spectral(Memory):
    """Complex, and unknown to the exporter."""

    def __init__(self, input_size: int, output_size: int, hidden_size: int = 4) -> None:
        super().__init__(input_size, output_size)
        self.map = nn.Linear(input_size, output_size)

    def initial_state(self, batch_size: int) -> State:
        return {"hidden": self._complex_zeros(batch_size, 2)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        return self.map(x), state


class Unknown(Spectral):
    """With an operator that ONNX does not have."""

    def initial_state(self, batch_size: int) -> State:
        return {"hidden": self._zeros(batch_size, 2)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        return self.map(x.cummin(dim=-1).values), state


def test_what_cannot_be_exported_says_why_in_a_line(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEMORIES, "spectral", Spectral)
    monkeypatch.setitem(MEMORIES, "unknown", Unknown)
    with pytest.raises(ValueError, match=r"the state has complex numbers \(hidden\)") as error:
        record(untrained(Game, "spectral"))
    recorded = record(untrained(Game, "unknown"))
    with pytest.raises(ExportError, match=r"unknown cannot be exported to ONNX: .*cummin") as error:
        export_onnx(recorded, tmp_path / "policy.onnx")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_export_that_plays_otherwise_is_an_error(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = untrained(Game, "gru")
    recorded = record(made)
    with torch.no_grad():
        made.policy.actor[0].weight += 0.01  # type: ignore[index, union-attr]
    with pytest.raises(
        ExportError, match=r"the exported gru differs from PyTorch by .* in logits at step .*; up to 1e-04 is allowed"
    ):
        export_torch(recorded, tmp_path / "policy.pt2", 5)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"onnxruntime is not installed, which ONNX needs: pip install 'hadamem\[export\]'"
    ):
        export.export_onnx(recorded, tmp_path / "policy.onnx")

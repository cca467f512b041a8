"""A memory and a task of another package, which needs no change of hadamem."""

import os
import pathlib
import subprocess
import sys

import pytest

MODULE = '''
import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from hadamem.envs import BatchedTask
from hadamem.memory import Memory


class Echo(Memory):
    """A memory of the latest input.

    State: "latest" (B, hidden_size).
    """

    def __init__(self, input_size, output_size, hidden_size: int = 8, *, gain: float = 1.0):
        super().__init__(input_size, output_size)
        self.hidden_size, self.gain = hidden_size, gain
        self.into, self.output = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, output_size)

    def initial_state(self, batch_size):
        return {"latest": self._zeros(batch_size, self.hidden_size)}

    def sequence(self, x, state, start):
        h = self.gain * self.into(x)
        before = torch.cat([state["latest"][:, None], h[:, :-1]], dim=1)
        return self.output(h + torch.where(start[..., None], 0, before)), {"latest": h[:, -1]}


class Coin(BatchedTask):
    """Say again what was seen first."""

    mutable = ("coin", "clock")
    max_steps = 4

    def __init__(self, num_envs, render_mode=None, sides: int = 2):
        super().__init__(num_envs, spaces.Discrete(sides + 1), spaces.Discrete(sides))
        self.sides, self.render_mode = sides, render_mode
        self.coin, self.clock = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)

    def _begin(self, rows):
        self.clock[rows] = 0
        for i in rows:
            self.coin[i] = self._generators[i].integers(self.sides)

    def _advance(self, actions):
        self.clock += 1
        over = self.clock == self.max_steps
        reward = (over & (np.asarray(actions).reshape(-1) == self.coin)).astype(np.float64)
        return reward, over, np.zeros_like(over)

    def _observe(self):
        return np.where(self.clock == 0, self.coin, self.sides)
'''


@pytest.fixture
def package(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of installed packages with one in it."""
    about = tmp_path / "others" / "elsewhere-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[hadamem.memories]\necho = elsewhere:Echo\nodd = elsewhere:np\n\n[hadamem.tasks]\nelsewhere/Coin-v0 = elsewhere:Coin\n"
    )
    (about.parent / "elsewhere.py").write_text(MODULE)
    return about.parent


def run(package: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "hadamem", *words]
    return subprocess.run(command, cwd=package.parent, env=environment, capture_output=True, text=True, check=False)


def test_a_memory_and_a_task_of_another_package(package: pathlib.Path) -> None:
    small = ["--num-envs", "4", "--num-steps", "8", "--minibatches", "1", "--steps", "64", "--threads", "1", "--out", "run"]
    options = ["--memory", "echo", "--memory-size", "4", "--memory-options", "gain=0.5", "layers=2", "--env-options", "sides=3"]
    trained = run(package, "train", "--env", "elsewhere/Coin-v0", *options, *small)
    assert trained.returncode == 0, trained.stderr
    played = run(package, "evaluate", "run", "--episodes", "4")
    assert "echo" in played.stdout, played.stderr
    wrong = run(package, "train", "--env", "elsewhere/Coin-v0", "--env-options", "edges=3", *small)
    assert "with a name that elsewhere/Coin-v0 has: sides (default 2)" in wrong.stderr
    odd = run(package, "train", "--memory", "odd", *small)
    assert "memory 'odd' is elsewhere:np, which is no subclass of hadamem.memory.Memory" in odd.stderr


def test_they_are_listed(package: pathlib.Path) -> None:
    listed = """
import sys
sys.path.insert(0, sys.argv[1])
from hadamem.envs.worlds import world_ids
from hadamem.memory import memory_class, memory_names
print(memory_names()[-2:], memory_class("echo").__name__, world_ids()[-1])
"""
    told = subprocess.run([sys.executable, "-c", listed, str(package)], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "['echo', 'odd'] Echo elsewhere/Coin-v0"

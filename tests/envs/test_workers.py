"""Environments in worker processes: the same episodes, and ends that are told."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import hadamem
from hadamem.envs import VectorEnvironment, make_vector, trying
from hadamem.envs.border import EnvironmentFailedError
from hadamem.envs.trying import Kind, try_one, usual_workers
from hadamem.envs.workers import WorkerDiedError, WorkerEnvironments
from hadamem.run import read_metrics

HERE = __name__


class Parts(gymnasium.Env):
    """Nested observations, hybrid actions, masks, a length that is drawn; fails where it is told to."""

    observation_space = spaces.Dict(
        a=spaces.Box(-9, 9, (2,)), b=spaces.Tuple((spaces.Discrete(5), spaces.Box(0, 255, (3,), np.uint8)))
    )
    action_space = spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (1,))))

    def __init__(self, fails_at: int = 0) -> None:
        self.fails_at = fails_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(2, 6))
        return self.draw(), {"action_mask": self.mask()}

    def step(self, action):
        self.left -= 1
        if self.fails_at and self.np_random.random() < 0.2:
            raise KeyError("no such thing")
        info = {"action_mask": self.mask(), "success": bool(self.np_random.integers(2))}
        return self.draw(), float(action[0] + action[1][0]), self.left == 0, False, info

    def draw(self):
        numbers = self.np_random.normal(size=2).astype(np.float32)
        return {"a": numbers, "b": (int(self.np_random.integers(5)), self.np_random.integers(256, size=3).astype(np.uint8))}

    def mask(self):
        return np.array([1, *self.np_random.integers(2, size=2)], np.int8)


class Ending(Parts):
    """Episodes of three steps; one that is seeded with 1 ends its process, or does not answer, after some steps."""

    def __init__(self, how: str, after: int) -> None:
        super().__init__()
        self.how, self.after = how, after

    def reset(self, *, seed=None, options=None):
        self.steps_left = self.after if seed == 1 else getattr(self, "steps_left", 0)
        result = super().reset(seed=seed)
        self.left = 3
        return result

    def step(self, action):
        self.steps_left -= 1
        if self.steps_left == 0:
            os._exit(3) if self.how == "exit" else time.sleep(100)
        return super().step(action)


class Dying(Parts):
    def step(self, action):
        os.kill(os.getpid(), signal.SIGKILL)


def play(env: VectorEnvironment, steps: int) -> None:
    for _ in range(steps):
        env.step(env.random_actions())


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1", f"{HERE}:Parts"])
def test_episodes_are_those_of_one_process(id: str) -> None:
    played = []
    for workers in (0, 2, 5):
        env = make_vector(id, 5, seed=3, workers=workers, inputs=("obs", "action", "reward"))
        assert isinstance(env._env, WorkerEnvironments) == (workers > 0)
        tensors, ended = [env.reset()], []
        for _ in range(60):
            step = env.step(env.random_actions())
            tensors += [step.obs, step.reward, step.terminated, step.truncated, step.at_goal]
            tensors += [] if step.final_obs is None else [step.final_obs]
            ended += step.episodes
        env.close()
        played.append((tensors, ended))
    for tensors, ended in played[1:]:
        assert all(torch.equal(one, other) for one, other in zip(tensors, played[0][0], strict=True))
        assert ended == played[0][1]


def test_what_an_environment_needs_of_the_previous_step_is_seen() -> None:
    id = "popgym-BattleshipEasy-v0"  # says that it needs the action
    layouts = [make_vector(id, 2, seed=0, workers=workers, batched=False).layout for workers in (0, 2)]
    assert layouts[0] == layouts[1]
    assert layouts[1].part("action").leaves


def test_a_training_is_the_same(tmp_path: pathlib.Path) -> None:
    metrics = []
    for workers in (0, 2):
        agent = hadamem.PPO("gru", "CartPole-v1", memory_size=8, num_envs=4, num_steps=16, minibatches=2, env_workers=workers)
        agent.learn(512, out=tmp_path / str(workers))
        lines = read_metrics(tmp_path / str(workers))
        metrics.append([{name: value for name, value in line.items() if "second" not in name} for line in lines])
    assert metrics[0] == metrics[1]


def test_an_error_in_a_worker_is_the_environments_own() -> None:
    env = make_vector(f"{HERE}:Parts", 4, seed=0, workers=2, options={"fails_at": 1})
    assert isinstance(env._env, WorkerEnvironments)
    env.reset()
    with pytest.raises(EnvironmentFailedError, match=r"Parts, environment \d, step \d of the episode: .* KeyError") as failed:
        play(env, 50)
    assert 'raise KeyError("no such thing")' in str(failed.value.__cause__)
    env.close()


def test_what_an_environment_gives_wrongly_is_named_by_its_own_number() -> None:
    class Wrong(Parts):
        def draw(self):
            return super().draw() | ({"a": np.zeros(3, np.float32)} if getattr(self, "left", 0) == 1 else {})

    env = make_vector(Wrong, 3, seed=1, workers=3)
    env.reset()
    with pytest.raises(ValueError, match=r"environment [0-2], step \d of the episode: in the observation, obs.a has shape"):
        play(env, 50)
    env.close()


def test_a_worker_that_is_killed_is_named() -> None:
    kind = try_one("parts", "Parts", Parts)
    assert kind is not None
    env = WorkerEnvironments("Dying-v0", 4, 2, Dying, kind)
    env.reset(seed=0)
    with pytest.raises(
        WorkerDiedError, match=r"Dying-v0: environments 0 to 1 \(process \d+\): the worker process was ended by SIGKILL"
    ):
        env.step((np.zeros(4, np.int64), np.zeros((4, 1), np.float32)))
    env.close()


@pytest.mark.parametrize("how", ["exit", "hang"])
def test_a_worker_that_ends_is_replaced(how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The other worker's episodes go on as without it."""
    monkeypatch.setattr("hadamem.envs.workers._PROVEN", 20)
    whole, ending = (make_vector(lambda after=after: Ending(how, after), 4, seed=1, workers=2) for after in (10_000, 40))
    whole.reset()
    before = ending.reset()
    assert ending.layout.mask is not None
    seen = slice(ending.layout.mask.columns.start)
    for t in range(1, 61):
        actions = whole.random_actions()
        ending.random_actions()
        there = whole.step(actions)
        with monkeypatch.context() as patience:  # for one step only: a worker that is merely slow would be replaced, too
            if t == 40:
                patience.setattr("hadamem.envs.workers.PATIENCE", 2.0)
                patience.setattr("hadamem.envs.workers._HANGING", 3.0)
            here = ending.step(actions)
        if t == 40:
            assert here.truncated.tolist() == [True, True, False, False]
            assert here.reward[:2].tolist() == [0, 0]
            assert here.final_obs is not None
            assert torch.equal(here.final_obs[:2, seen], before[:2, seen])
            assert not torch.equal(here.obs[:2, seen], before[:2, seen])
            assert [episode.length for episode in here.episodes] == [1, 1]
        else:
            assert here.final_obs is None
        assert torch.equal(here.obs[2:], there.obs[2:])
        before = here.obs
    assert ("had not answered for 3 seconds" if how == "hang" else "ended with exit code 3") in caplog.text
    assert "another takes its place" in caplog.text
    whole.close()
    ending.close()


def test_an_environment_that_cannot_be_made_is_told_as_in_one_process() -> None:
    with pytest.raises(ValueError, match=r"cannot be made with \{'length': 1\}"):
        make_vector("CartPole-v1", 4, seed=0, workers=2, options={"length": 1})


def test_workers_end_with_a_parent_that_is_killed_even_in_a_step_that_does_not_end() -> None:
    program = """
import gymnasium, os, time
from hadamem.envs import make_vector

class Hanging(gymnasium.Env):
    observation_space, action_space, left = gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(2), 50
    def reset(self, *, seed=None, options=None):
        return 0, {}
    def step(self, action):
        self.left -= 1
        if self.left == 0:
            os.write(1, b"%d\\n" % os.getpid())  # whole, whoever else writes
            time.sleep(100)
        return 0, 0.0, False, False, {}

env = make_vector(Hanging, 2, 0, workers=2)
env.reset()
while True:
    env.step(env.random_actions())
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        workers = [int(parent.stdout.readline()) for _ in range(2)]
    finally:
        parent.kill()
        parent.wait()
    assert len({parent.pid, *workers}) == 3
    for _ in range(100):
        if not any(pathlib.Path(f"/proc/{worker}").exists() for worker in workers):
            return
        time.sleep(0.2)
    raise AssertionError("a worker outlived its parent")


def test_workers_are_used_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    def kind(seconds: float, waits: bool = False) -> Kind:
        return Kind(seconds, waits, Parts.observation_space, Parts.action_space, {}, None, False, [])

    monkeypatch.setattr("hadamem.envs.trying.processors", lambda: 4)
    monkeypatch.setattr("hadamem.envs.trying._free_processors", lambda: 4)
    assert usual_workers(kind(1e-5), 8) == 0
    assert usual_workers(kind(1e-2), 8) == 4
    assert usual_workers(kind(1e-2), 3) == 3
    assert usual_workers(kind(5e-3, waits=True), 8) == 8
    monkeypatch.setattr("hadamem.envs.trying._free_processors", lambda: 1)
    assert usual_workers(kind(1e-2), 8) == 0
    assert usual_workers(kind(5e-3, waits=True), 8) == 8


@pytest.mark.parametrize(("told", "used"), [("5.00 2 1 3/77 99", 2.0), ("5.00 2 1 9/77 99", 5.0), (None, 5.0), ("other", 5.0)])
def test_programs_that_have_ended_leave_their_processors(
    told: str | None, used: float, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    if told is not None:
        (tmp_path / "loadavg").write_text(told)
    monkeypatch.setattr("os.getloadavg", lambda: (5.0, 2.0, 1.0))
    monkeypatch.setattr(trying, "_LOAD", tmp_path / "loadavg")
    assert trying._used_by_others() == used
    monkeypatch.setattr(trying, "processors", lambda: 8)
    assert trying._free_processors() == 8 - used

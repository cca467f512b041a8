"""The replay against lists of what happened."""

from __future__ import annotations

import pathlib
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from hadamem.agents.replay import LENGTH, Replay
from hadamem.envs import VectorEnvironment, make_vector


class Colours(gymnasium.Env):
    """Random pixels, a random number and a random digit; episodes of random length, some truncated, or none that ends."""

    observation_space = spaces.Dict(
        {"pixels": spaces.Box(0, 255, (3, 4, 4), np.uint8), "x": spaces.Box(-1, 1, (2,)), "digit": spaces.Discrete(5, start=2)}
    )

    def __init__(self, continuous: bool = False, endless: bool = False) -> None:
        self.action_space = spaces.Box(-2, 2, (2,)) if continuous else spaces.Discrete(3, start=4)
        self.endless = endless

    def _observe(self) -> dict[str, Any]:
        return {name: space.sample() for name, space in self.observation_space.spaces.items()}

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left = int(self.np_random.integers(1, 9))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[dict, float, bool, bool, dict]:
        assert self.action_space.contains(action)
        self.left -= 1
        over, cut = self.left == 0 and not self.endless, self.np_random.random() < 0.5
        return self._observe(), self.np_random.random(), over and not cut, over and cut, {}


gymnasium.register("Colours-v0", Colours)


def play(replay: Replay, steps: int, obs: Tensor, start: Tensor) -> list[dict[str, Any]]:
    """Random steps, told to the replay; the episodes that ended, as lists. Clocks count the episodes."""
    env = replay.env
    N = env.num_envs
    going: list[dict[str, Any]] = [{} for _ in range(N)]
    clock, ended = torch.zeros(N, dtype=torch.int64), []
    for t in range(steps):
        clock = torch.where(start, 1000 * (t + 1) + torch.arange(N), clock)
        for i in start.nonzero().flatten().tolist():
            going[i] = {"obs": [], "action": [], "reward": [], "terminal": [], "clock": int(clock[i])}
        action = env.random_actions()
        step = env.step(action)
        replay.add(obs, start, clock, action, step, step.terminated)
        for i, episode in enumerate(going):
            for name, value in (("obs", obs), ("action", action), ("reward", step.reward), ("terminal", step.terminated)):
                episode[name].append(value[i].numpy())
            if step.start[i]:
                last = np.zeros_like(obs[i]) if step.terminated[i] else step.final_obs[i].numpy()
                ended.append(episode | {"obs": [*episode["obs"], last]})
        obs, start = step.obs, step.start
    return ended


def make(
    capacity: int, path: pathlib.Path | None = None, continuous: bool = False, endless: bool = False, **options: Any
) -> tuple[Replay, VectorEnvironment]:
    env = make_vector("Colours-v0", 3, 0, ("obs", "action", "reward"), continuous=continuous, endless=endless)
    return Replay(env, 2 if continuous else 1, not continuous, capacity, path=path, **options), env


def fresh(env: VectorEnvironment) -> tuple[Tensor, Tensor]:
    return env.reset(), torch.ones(3, dtype=torch.bool)


@pytest.mark.parametrize("continuous", [True, False])
@pytest.mark.parametrize("capacity", [100_000, 60])
def test_equals_a_list_of_episodes(capacity: int, continuous: bool) -> None:
    replay, env = make(capacity, continuous=continuous, most_unsaved=8)
    ended = play(replay, 200, *fresh(env))
    assert 0 < replay.settle() == len(replay.sequences) <= len(ended)
    if capacity > 1000:
        assert len(replay.sequences) == len(ended) > 50
    else:  # each lane keeps 20 entries, of which whole episodes cover most
        assert 40 <= replay.sequences[:, LENGTH].sum() + len(replay.sequences) <= 60
    by_clock = {episode["clock"]: episode for episode in ended}
    batch = replay.gather(replay.sequences)
    assert len(set(batch.clock.tolist())) == len(batch.clock)
    for row, clock in enumerate(batch.clock.tolist()):
        want = by_clock[clock]
        T = len(want["reward"])
        assert batch.mask[row].tolist() == [True] * T + [False] * (batch.mask.shape[1] - T)
        got = batch.obs[row, : T + 1].numpy()
        np.testing.assert_array_equal(got[:-1], want["obs"][:-1])  # to the bit, images too
        if not want["terminal"][-1]:
            np.testing.assert_array_equal(got[-1], want["obs"][-1])
        np.testing.assert_array_equal(batch.action[row, :T].numpy().squeeze(), np.squeeze(want["action"]))
        np.testing.assert_array_equal(batch.reward[row, :T], want["reward"])
        np.testing.assert_array_equal(batch.terminal[row, :T], want["terminal"])
    assert batch.obs.isfinite().all()


def test_every_episode_is_as_likely() -> None:
    replay, env = make(1000)
    play(replay, 12, *fresh(env))
    n = replay.settle()
    clocks = replay.sample(4000 * n).clock
    counts = torch.unique(clocks, return_counts=True)[1]
    assert len(counts) == n
    assert (counts - 4000).abs().max() < 6 * 4000**0.5


@pytest.mark.parametrize("burn_in", [0, 3])
def test_slices_of_an_endless_episode(burn_in: int) -> None:
    """Every step is learned from once; what comes before a slice is right, and its clock is the one of its first step."""
    replay, env = make(10_000, endless=True, sequence_length=5, burn_in=burn_in)
    seen: list[Tensor] = []
    obs, start = fresh(env)
    clock = torch.tensor([100, 200, 300])
    for _ in range(23):
        seen.append(obs)
        step = env.step(action := env.random_actions())
        replay.add(obs, start, clock, action, step, step.terminated)
        obs, start = step.obs, step.start
    assert replay.settle() == 3 * 4
    batch = replay.gather(replay.sequences)
    learned = set()
    for row, clock_then in enumerate(batch.clock.tolist()):
        lane, first = clock_then // 100 - 1, clock_then % 100
        steps = batch.mask[row].nonzero().flatten()
        assert first == 0 or steps[0] == burn_in
        learned |= {(lane, first + int(t)) for t in steps}
        for t in range(int(steps[-1]) + 2):
            torch.testing.assert_close(batch.obs[row, t], seen[first + t][lane], rtol=0, atol=0)
    assert learned == {(lane, t) for lane in range(3) for t in range(20)}


def test_a_slice_ends_with_its_episode() -> None:
    replay, env = make(10_000, sequence_length=4, burn_in=2)
    ended = play(replay, 300, *fresh(env))
    replay.settle()
    batch = replay.gather(replay.sequences)
    unfinished = 3 * 8
    assert sum(len(e["reward"]) for e in ended) <= batch.mask.sum() <= sum(len(e["reward"]) for e in ended) + unfinished
    assert batch.terminal[batch.mask].sum() == sum(e["terminal"][-1] for e in ended)


def test_what_a_checkpoint_knows_outlives_a_kill(tmp_path: pathlib.Path) -> None:
    """After the checkpoint, as much is written as is allowed; the file still holds all that the checkpoint speaks of."""
    replay, env = make(60, tmp_path / "replay.bin", most_unsaved=30)
    play(replay, 100, *fresh(env))
    saved = replay.state_dict()
    want = replay.gather(replay.sequences)
    assert replay.unsaved == 0
    obs, start = fresh(env)
    while replay.unsaved + 2 <= replay.spare:
        step = env.step(action := env.random_actions())
        replay.add(obs, start, torch.zeros(3, dtype=torch.int64), action, step, step.terminated)
        obs, start = step.obs, step.start
    del replay  # killed: nothing is flushed or closed on purpose
    resumed, _ = make(60, tmp_path / "replay.bin", most_unsaved=30)
    resumed.load_state_dict(saved)
    for got, expected in zip(resumed.gather(resumed.sequences), want, strict=True):
        assert torch.equal(got, expected)


def test_a_missing_file_is_told(tmp_path: pathlib.Path) -> None:
    replay, env = make(60, tmp_path / "replay.bin")
    play(replay, 10, *fresh(env))
    saved = replay.state_dict()
    elsewhere, _ = make(60, tmp_path / "other.bin")
    with pytest.raises(ValueError, match=r"other\.bin must be the replay"):
        elsewhere.load_state_dict(saved)


def test_nothing_to_sample() -> None:
    replay, env = make(1000, endless=True)
    play(replay, 20, *fresh(env))
    assert replay.settle() == 0
    with pytest.raises(ValueError, match=r"no whole episode.*sequence_length"):
        replay.sample(2)


def test_bytes_stay_bytes() -> None:
    replay, _ = make(1000)
    assert replay.entry["bytes"].shape == (3 * 4 * 4 + 5,)
    assert replay.entry["floats"].shape == (2,)
    assert replay.entry.itemsize == 53 + 2 * 4 + 1 + 4 + 4 + 1

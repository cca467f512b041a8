"""The endless T-maze: what the best player gets, and what everyone else does."""

from __future__ import annotations

import numpy as np
import pytest

from hadamem.envs.endless_tmaze import FORWARD, LEFT, RIGHT, EndlessTMaze


class Best:
    """Remembers the side of the latest sign. Where the end cannot be seen, it tries the turn before each step forward."""

    def __init__(self, num_envs: int, sees_end: bool) -> None:
        self.side, self.before, self.tried = np.zeros(num_envs, np.int64), np.full(num_envs, -1.0), np.zeros(num_envs, bool)
        self.sees_end = sees_end

    def act(self, obs: np.ndarray) -> np.ndarray:
        x, left, right = obs.T
        self.side = np.where(left == 1, LEFT, np.where(right == 1, RIGHT, self.side))
        if self.sees_end:
            return np.where(x == 1, self.side, FORWARD)
        tries = (x > 0) & ~(self.tried & (x == self.before))
        self.tried, self.before = tries, x
        return np.where(tries, self.side, FORWARD)


def play(env: EndlessTMaze, player: Best, episodes: int) -> tuple[list[float], list[bool], list[int]]:
    obs, _ = env.reset(seed=0)
    total, steps = np.zeros(env.num_envs), np.zeros(env.num_envs, int)
    returns, successes, lengths = list[float](), list[bool](), list[int]()
    while len(returns) < episodes:
        obs, reward, terminated, truncated, info = env.step(player.act(obs))
        total += reward
        steps += 1
        for i in np.flatnonzero(terminated | truncated):
            returns.append(total[i])
            successes.append(bool(info["final_info"]["success"][i]))
            lengths.append(int(steps[i]))
            total[i] = steps[i] = 0
    return returns, successes, lengths


def test_the_best_player_with_fixed_corridors() -> None:
    env = EndlessTMaze(8, corridor_length=4, num_corridors=3)
    returns, successes, lengths = play(env, Best(8, sees_end=True), 100)
    assert all(successes)
    assert set(returns) == {3.0}
    assert set(lengths) == {15}  # four steps and a turn in each


def test_the_best_player_with_random_corridors() -> None:
    env = EndlessTMaze(8, corridor_length=6, num_corridors=4, lengths="uniform")
    returns, successes, lengths = play(env, Best(8, sees_end=False), 400)
    assert all(successes)
    # a corridor of n steps has n - 1 places where the turn is tried in vain
    assert np.mean(returns) == pytest.approx(4 - 0.01 * 4 * 2.5, abs=0.01)
    assert max(lengths) <= 4 * (6 + 5 + 1)


def test_a_memory_that_is_not_overwritten_fails() -> None:
    """One sign for ever is right at three junctions in a row once in eight times."""

    class Stubborn(Best):
        def act(self, obs: np.ndarray) -> np.ndarray:
            kept = self.side.copy()
            action = super().act(obs)
            self.side = np.where(kept > 0, kept, self.side)
            return np.where(action == FORWARD, FORWARD, self.side)

    _, successes, _ = play(EndlessTMaze(8, corridor_length=3, num_corridors=3), Stubborn(8, sees_end=True), 400)
    assert 0.07 < np.mean(successes) < 0.19


def test_wrong_turns_and_waiting() -> None:
    env = EndlessTMaze(1, corridor_length=2, num_corridors=2, penalty=-0.5)
    env.reset(seed=1)
    _, reward, terminated, truncated, _ = env.step(np.array([LEFT]))
    assert (reward[0], terminated[0], truncated[0]) == (-0.5, False, False)
    for _ in range(2):
        env.step(np.array([FORWARD]))
    _, reward, terminated, _, info = env.step(np.array([FORWARD]))  # there is nothing ahead
    assert (reward[0], terminated[0]) == (-0.5, True)
    assert not info["final_info"]["success"][0]
    for step in range(1, env.max_steps + 1):
        *_, truncated, _ = env.step(np.array([LEFT]))
        assert truncated[0] == (step == env.max_steps)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="lengths is 'some'; it must be one of fixed, uniform"):
        EndlessTMaze(1, lengths="some")
    with pytest.raises(ValueError, match="num_corridors is 0; it must be above 0"):
        EndlessTMaze(1, num_corridors=0)

import numpy as np
import pytest

from hadamem.envs.catch import DelayedCatch

N = 300


def play(env, policy):
    """One episode of each environment: observations (T + 1, N, 7, 7), rewards (T, N), success (N,)."""
    observation, _ = env.reset(seed=0)
    seen, rewards, over = [observation], [], False
    while not over:
        observation, reward, terminated, _, info = env.step(policy(seen[-1].reshape(N, 7, 7)))
        over = terminated.all()
        seen.append(np.stack(info["final_obs"]) if over else observation)
        rewards.append(reward)
    return np.stack(seen).reshape(-1, N, 7, 7), np.stack(rewards), info["final_info"]["success"]


def follow(grid):
    fruit = (grid == -1).any(1)
    return np.where(fruit.any(1), 1 + np.sign(fruit.argmax(1) - (grid[:, 6] == 1).argmax(1)), 1)


@pytest.mark.parametrize("runs", [1, 2, 10])
def test_who_follows_catches_all_and_is_paid_at_the_end(runs):
    seen, rewards, success = play(DelayedCatch(N, runs), follow)
    assert len(rewards) == 7 * (runs - 1) + 6
    assert not rewards[:-1].any()
    assert (rewards[-1] == runs).all()
    assert success.all()
    first = seen[::7]
    assert set(np.unique((first[:, :, 0] == -1).argmax(-1))) == set(range(6))
    assert set(np.unique((first[:, :, 6] == 1).argmax(-1))) == set(range(1, 5))
    assert ((seen == 1).sum((2, 3)) == 1).all()
    assert set(np.unique(seen)) == {-1, 0, 1}


def test_a_catch_is_judged_in_the_lowest_row():
    def dodge(grid):
        return np.where((grid[:, 5] == -1).any(1), 2 - 2 * (grid[:, 6, 6] == 1), follow(grid))

    env = DelayedCatch(N, 3)
    assert (play(env, follow)[1][-1] == 3).all()
    _, rewards, success = play(env, dodge)
    assert not rewards.any()
    assert not success.any()


def test_random_actions_catch_few():
    rng = np.random.default_rng(0)
    _, rewards, success = play(DelayedCatch(N, 10), lambda grid: rng.integers(3, size=N))
    assert rewards.sum(0).mean() == pytest.approx(1.5, abs=0.3)
    assert not success.any()

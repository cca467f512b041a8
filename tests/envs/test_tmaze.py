import numpy as np
import pytest

from hadamem.envs.tmaze import TMaze

RIGHT, UP, LEFT, DOWN = range(4)
N = 400


def play(env, policy, seed=0):
    """One episode of each environment: observations (T + 1, N, 2), rewards (T, N), info of the last step."""
    observation, _ = env.reset(seed=seed)
    seen, rewards, over = [observation], [], False
    while not over:
        observation, reward, terminated, _, info = env.step(np.broadcast_to(policy(seen), N))
        over = terminated.all()
        seen.append(np.stack(info["final_obs"]) if over else observation)
        rewards.append(reward)
    return np.stack(seen), np.stack(rewards), info["final_info"]


@pytest.mark.parametrize("oracle_length", [0, 1])
@pytest.mark.parametrize("length", [1, 6, 30])
def test_who_remembers_reaches_the_goal(length, oracle_length):
    def remember(seen):
        t, sides = len(seen) - 1, np.stack(seen)[:, :, 1].sum(0)
        last = t == length + 2 * oracle_length
        return np.where(sides > 0, UP, DOWN) if last else LEFT if t < oracle_length else RIGHT

    env = TMaze(N, length, oracle_length)
    seen, rewards, info = play(env, remember)
    assert len(rewards) == env.max_steps == length + 1 + 2 * oracle_length
    assert (rewards.sum(0) == 1).all()
    assert info["success"].all()
    sides = seen[oracle_length, :, 1]
    assert set(sides) == {-1, 1}
    assert abs(sides.mean()) < 0.15
    np.testing.assert_array_equal(seen[-1], np.stack([np.ones(N), sides], 1))
    corridor = seen[oracle_length + 1 : -2]
    assert not corridor.any()
    np.testing.assert_array_equal(seen[-2], np.tile([1.0, 0.0], (N, 1)))


def test_who_does_not_gets_half():
    _, rewards, _ = play(TMaze(N, 9), lambda seen: UP if len(seen) == 10 else RIGHT)
    assert set(rewards.sum(0)) == {0, 1}
    assert rewards.sum(0).mean() == pytest.approx(0.5, abs=0.08)


def test_random_actions_lose():
    rng = np.random.default_rng(0)
    _, rewards, info = play(TMaze(N, 20), lambda seen: rng.integers(4, size=N))
    assert -1.0 <= rewards.sum(0).mean() < -0.8
    assert not info["success"].any()


def test_who_lags_pays_one_step_for_one():
    _, rewards, _ = play(TMaze(N, 10), lambda seen: DOWN)
    np.testing.assert_allclose(rewards[:, 0], [-0.1] * 10 + [0])
    _, rewards, _ = play(TMaze(N, 10, penalty=0.0, distract_reward=0.5), lambda seen: DOWN)
    np.testing.assert_allclose(rewards[:, 0], [0.5] * 10 + [0])
    late = iter([RIGHT, RIGHT, UP, RIGHT, RIGHT, RIGHT])
    _, rewards, _ = play(TMaze(N, 5), lambda seen: next(late))
    np.testing.assert_allclose(rewards[:, 0], [0, 0, -0.2, -0.2, -0.2, 0])


def test_the_oracle_speaks_once():
    moves = iter([LEFT, RIGHT, LEFT, LEFT, UP, RIGHT, RIGHT])
    seen, _, _ = play(TMaze(N, 4, oracle_length=1), lambda seen: next(moves))
    assert (abs(seen[:, :, 1]).sum(1) > 0).tolist() == [False, True, False, False, False, False, False, False]


def test_goals_can_be_left_again():
    moves = iter([RIGHT, RIGHT, UP, UP, RIGHT, DOWN, LEFT])
    env = TMaze(N, 2, oracle_length=2)
    env.x[:] = 2
    seen, _, _ = play(env, lambda seen: next(moves))
    assert seen[1:, 0].tolist() == [[0, 0], [1, 0], [1, 1], [1, 1], [1, 1], [1, 0], [0, 0]]

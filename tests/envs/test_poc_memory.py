import numpy as np
import pytest

from hadamem.envs.poc_memory import PocMemory

N = 400
LEFT, RIGHT = 0, 1


def play(env, policy):
    """The first episode of each environment: observations (T + 1, N, 3), NaN after its end, rewards (T, N), lengths (N,),
    success (N,)."""
    observation, _ = env.reset(seed=0)
    seen, rewards, success, over = [observation], [], np.zeros(N, bool), np.zeros(N, bool)
    while not over.all():
        observation, reward, terminated, truncated, info = env.step(policy(np.stack(seen)))
        done = (terminated | truncated) & ~over
        observation = observation.copy()
        for i in np.flatnonzero(done):
            observation[i], success[i] = info["final_obs"][i], info["final_info"]["success"][i]
        observation[over] = np.nan
        seen.append(observation)
        rewards.append(np.where(over, 0, reward))
        over |= done
    seen = np.stack(seen)
    return seen, np.stack(rewards), (~np.isnan(seen[1:, :, 0])).sum(0), success


def remember(seen):
    return np.where(seen[0, :, 2] > 0, RIGHT, LEFT)


@pytest.mark.parametrize("step_size", [0.2, 0.1, 0.05])
def test_who_remembers_reaches_the_good_end(step_size):
    seen, rewards, lengths, success = play(PocMemory(N, step_size), remember)
    assert success.all()
    side, start = seen[0, :, 2], seen[0, :, 1]
    steps = np.rint((1 - side * start) / step_size)  # from the start to the good end
    np.testing.assert_array_equal(lengths, 2 + steps)
    np.testing.assert_allclose(rewards.sum(0), 1 + (1 / step_size + 1) * 0.1 - 0.1 * (steps - 1), rtol=1e-5)
    np.testing.assert_array_equal(seen[:3, :, 2], np.tile(side, (3, 1)))  # shown at first and in the two frozen steps
    np.testing.assert_array_equal(seen[:3, :, 0], -seen[:3, :, 2])
    np.testing.assert_array_equal(seen[:3, :, 1], np.tile(start, (3, 1)))
    assert not np.nan_to_num(seen[3:, :, [0, 2]]).any()
    assert not rewards[:2].any()


def test_starts_and_ends_are_uniform():
    for options, reach in (({}, 0.4), ({"start_anywhere": True}, 0.8)):
        first, _ = PocMemory(4000, **options).reset(seed=0)
        positions, counts = np.unique(first[:, 1], return_counts=True)
        np.testing.assert_allclose(positions, np.arange(-reach, reach + 0.1, 0.2), atol=1e-6)
        assert counts.min() > 0.8 * 4000 / len(positions)
        assert abs(first[:, 2].mean()) < 0.05
        assert set(first[:, 2]) == {-1, 1}


def test_the_bad_end_costs_what_the_good_one_pays():
    seen, rewards, lengths, success = play(PocMemory(N, freeze=False), lambda seen: 1 - remember(seen))
    assert not success.any()
    assert (rewards[lengths - 1, np.arange(N)] == -1.6).all()
    np.testing.assert_allclose(lengths, np.rint((1 + seen[0, :, 2] * seen[0, :, 1]) / 0.2))
    assert (rewards[0] == -0.1).all()  # who moves pays at once


def test_who_does_not_remember_gets_half():
    _, _, _, success = play(PocMemory(N), lambda seen: np.full(N, RIGHT))
    assert success.mean() == pytest.approx(0.5, abs=0.08)


def test_who_wavers_is_cut():
    _, rewards, lengths, success = play(PocMemory(N), lambda seen: np.full(N, len(seen) % 2))
    assert (lengths == 32).all()
    assert not success.any()
    np.testing.assert_allclose(rewards.sum(0), -3.0)

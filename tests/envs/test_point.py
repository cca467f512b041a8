"""Wind and Point Robot against the parity values and figures of their specification."""

import numpy as np
import pytest
import torch

from hadamem.envs import make_vector
from hadamem.envs.point import PointRobot, Wind


def play(env, policy, tasks):
    """One episode of each task: returns (N,) and the last info."""
    observation, info = env.reset(seed=0, options={"task": tasks})
    np.testing.assert_array_equal(info["task"], tasks)
    returns, over = np.zeros(env.num_envs), False
    while not over:
        observation, reward, terminated, truncated, info = env.step(policy(env, observation))
        returns += reward
        over = truncated.all()
        assert not terminated.any()
    return returns, info["final_info"]


def test_winds_and_split_are_those_of_the_original():
    winds = Wind(1, split="all").tasks
    np.testing.assert_allclose(winds[:2], [(-0.04759506, -0.06826321), (-0.04437470, -0.00813662)], atol=1e-8)
    np.testing.assert_array_equal(Wind(1).tasks[:6], winds[[67, 193, 117, 142, 118, 27]])
    train, evaluation = Wind(1).tasks, Wind(1, split="eval").tasks
    assert (len(winds), len(train), len(evaluation)) == (200, 50, 150)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, evaluation]), axis=0), np.sort(winds, axis=0))
    assert [len(Wind(1, num_train=10, split=split).tasks) for split in ("train", "eval")] == [10, 190]
    assert [len(Wind(1, "original", split=split).tasks) for split in ("train", "eval")] == [40, 20]
    assert abs(Wind(1, "original", split="all").tasks).max() < 0.08
    assert (Wind(1, task_seed=1).tasks[0] != train[0]).all()


def test_goals_and_split_are_those_of_the_original():
    goals = PointRobot(1, split="all").tasks
    np.testing.assert_allclose(goals[:2], [(0.32724851, 0.94493831), (0.99884680, 0.04801122)], atol=1e-8)
    np.testing.assert_array_equal(PointRobot(1).tasks[:6], goals[[33, 194, 175, 59, 170, 9]])
    np.testing.assert_allclose(np.linalg.norm(goals, axis=1), 1)
    assert (goals[:, 1] > 0).all()
    assert [len(PointRobot(1, "original", split=split).tasks) for split in ("train", "eval")] == [80, 20]


@pytest.mark.parametrize(("num_train", "ceiling", "best"), [(50, 140 / 150, 81.7), (10, 180 / 190, 82.1)])
def test_who_knows_the_wind_reaches_what_can_be_reached(num_train, ceiling, best):
    def steer(env, observation):
        return np.clip((np.array([0, 1]) - env.position - env.tasks[env.task]) / 0.1, -1, 1)

    env = Wind(200 - num_train, num_train=num_train, split="eval")
    returns, info = play(env, steer, np.arange(env.num_envs))
    assert info["success"].mean() == ceiling
    assert returns.mean() == pytest.approx(best, abs=0.1)


def test_who_ignores_the_wind_stays_away_from_a_small_goal():
    def steer(env, observation):
        return np.clip((np.array([0, 1]) - observation) / 0.1, -1, 1)

    env = Wind(150, split="eval")
    returns, _ = play(env, steer, np.arange(150))
    assert returns.mean() < 2
    rng = np.random.default_rng(0)
    returns, _ = play(env, lambda env, _: rng.uniform(-1, 1, (150, 2)), np.arange(150))
    assert returns.mean() < 0.2


def test_one_step_of_wind():
    env = Wind(2, split="all")
    observation, _ = env.reset(seed=0, options={"task": [0, 1]})
    np.testing.assert_array_equal(observation, np.zeros((2, 2)))
    observation, *_ = env.step(np.array([[0.5, -3.0], [0.0, 1.0]], np.float32))  # clipped to [-1, 1], then scaled
    np.testing.assert_allclose(observation, np.array([[0.05, -0.1], [0, 0.1]]) + env.tasks[:2], atol=1e-7)


def test_who_knows_the_goal_collects_about_ninety_twice():
    def steer(env, observation):
        return np.clip((env.tasks[env.task] - env.position) / 0.1, -1, 1)

    env = PointRobot(150, split="eval")
    returns, info = play(env, steer, np.arange(150))
    assert info["success"].all()
    np.testing.assert_allclose(info["inner_returns"].mean(0), 90, atol=2)
    np.testing.assert_array_equal(info["inner_returns"].sum(1), returns)
    returns, _ = play(env, lambda env, _: np.zeros((150, 2)), np.arange(150))
    assert returns.mean() < 3  # only from a start that lies on the goal


def test_the_second_inner_episode_shows_where_it_begins():
    env = PointRobot(300, horizon=4, split="all")
    starts, _ = env.reset(seed=0)
    assert starts[:, 0].min() < -1.4
    assert starts[:, 0].max() > 1.4
    assert -0.5 <= starts[:, 1].min() < -0.45
    assert 1.45 < starts[:, 1].max() <= 1.5
    action = np.ones((300, 2), np.float32)
    seen = [starts]
    for _ in range(8):
        observation, _, _, truncated, info = env.step(action)
        seen.append(np.stack(info["final_obs"]) if truncated.all() else observation)
    assert [step[0, 2] for step in seen] == [0, 0, 0, 0, 1, 0, 0, 0, 1]
    np.testing.assert_allclose(seen[3][:, :2], starts[:, :2] + 0.3, atol=1e-6)
    assert abs(seen[4][:, :2] - seen[3][:, :2]).max() > 1  # elsewhere
    np.testing.assert_allclose(seen[5][:, :2], seen[4][:, :2] + 0.1, atol=1e-6)
    np.testing.assert_allclose(seen[8][:, :2], seen[4][:, :2] + 0.4, atol=1e-6)


def test_the_goal_is_judged_before_the_second_inner_episode_begins():
    env = PointRobot(1, horizon=1, radius=0.3, split="all")
    env.reset(seed=0, options={"task": 0})
    env.position[:] = env.tasks[0]
    _, reward, _, _, info = env.step(np.zeros((1, 2)))
    assert reward[0] == 1
    assert info["at_goal"][0]


def test_the_goal_is_a_disc():
    env = PointRobot(3, radius=0.3, split="all")
    env.reset(seed=0, options={"task": 0})
    env.position[:] = env.tasks[0] + np.array([[0.29, 0], [0, -0.31], [0.21, 0.22]])
    assert env.step(np.zeros((3, 2)))[1].tolist() == [1, 0, 0]


def test_tasks_are_drawn_from_the_split_and_can_be_asked_for():
    env = Wind(400)
    _, info = env.reset(seed=0)
    assert set(info["task"]) == set(range(50))
    with pytest.raises(ValueError, match="task is 50; there are the tasks 0 to 49"):
        env.reset(options={"task": 50})

    vector = make_vector("hadamem/Wind-v0", 3, 0, variant="original", horizon=2, split="eval")
    assert vector.num_tasks == 20
    vector.reset(tasks=[4, 0, 19])
    assert vector._env.task.tolist() == [4, 0, 19]
    for _ in range(2):
        step = vector.step(vector.random_actions())
    assert (step.truncated.all(), step.terminated.any()) == (True, False)
    assert vector._env.task.tolist() != [4, 0, 19]
    with pytest.raises(ValueError, match=r"2 tasks are asked of 3 environments .* choose among 20"):
        vector.reset(tasks=[0, 1])
    with pytest.raises(ValueError, match="have no list of tasks"):
        make_vector("CartPole-v1", 1, 0).reset(tasks=[0])


def test_at_goal_reaches_the_agent_also_at_the_end():
    env = make_vector("hadamem/Wind-v0", 2, 0, radius=9.0, horizon=2)
    env.reset()
    steps = [env.step(env.random_actions()) for _ in range(2)]
    assert [step.at_goal.tolist() for step in steps] == [[True, True]] * 2
    assert [episode.success for episode in steps[1].episodes] == [True, True]
    far = make_vector("hadamem/PointRobot-v0", 2, 0, radius=1e-9, horizon=1)
    far.reset()
    steps = [far.step(far.random_actions()) for _ in range(2)]
    assert not torch.stack([step.at_goal for step in steps]).any()
    assert [(e.success, e.inner_returns) for e in steps[1].episodes] == [(False, (0.0, 0.0))] * 2


def test_what_must_be_known_of_the_previous_step_is_an_input():
    names = {id: [leaf.name for leaf in make_vector(f"hadamem/{id}-v0", 1, 0).layout.leaves] for id in ("Wind", "PointRobot")}
    assert names == {"Wind": ["obs", "action"], "PointRobot": ["obs", "reward"]}

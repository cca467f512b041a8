"""Key-to-Door and Visual Match, played by hand. Cells are (row, column) of the board without its margin."""

import numpy as np
import pytest

from hadamem.envs.grid import APPLE, BLUE, KEY, MARGIN, RED, KeyToDoor, VisualMatch

NORTH, SOUTH, WEST, EAST = range(4)
FLOOR_RGB, WALL_RGB, PLAYER_RGB = (204, 204, 204), (25, 25, 25), (228, 148, 109)
N = 200


def play(env, policy, seed=0):
    """One episode of each environment: views (T + 1, N, 5, 5, 3), rewards (T, N), success (N,)."""
    observation, _ = env.reset(seed=seed)
    views, rewards, over = [observation], [], False
    while not over:
        observation, reward, terminated, truncated, info = env.step(policy(env))
        over = terminated.all()
        assert not truncated.any()
        views.append(np.stack(info["final_obs"]) if over else observation)
        rewards.append(reward)
    return np.stack(views).transpose(0, 1, 3, 4, 2), np.stack(rewards), info["final_info"]["success"]


def chapter(env):
    return sum(env.clock >= begin for begin in env.begins[1:3])


def towards(player, target):
    """A step to a cell in the open, columns first."""
    (row, column), (to_row, to_column) = player, target
    if column != to_column:
        return EAST if to_column > column else WEST
    return SOUTH if to_row > row else NORTH


def fetch_key(env):
    actions = []
    for i, (row, column) in enumerate(env.player - MARGIN):
        keys = np.argwhere(env.boards[i] == KEY) - MARGIN
        if not len(keys):
            actions.append(NORTH)
        elif row >= 3:
            actions.append(EAST if column < 4 and row > 3 else WEST if column > 6 and row > 3 else NORTH)
        else:
            actions.append(towards((row, column), keys[0]))
    return np.array(actions)


def gather(env):
    """To the nearest apple; on the spot, as far as that goes, where there is none."""
    actions = []
    for i, player in enumerate(env.player):
        apples = np.argwhere(env.boards[i] == APPLE)
        if not len(apples):
            actions.append(SOUTH)
        else:
            actions.append(towards(player, apples[abs(apples - player).sum(1).argmin()]))
    return np.array(actions)


def match(choose):
    """A policy that enters the coloured cell number choose(env) (N,), from left to right."""

    def policy(env):
        if chapter(env) < 2:
            return np.full(env.num_envs, NORTH)
        actions = []
        for (row, column), choice in zip(env.player - MARGIN, choose(env), strict=True):
            actions.append(NORTH if row > 3 else towards((row, column), (1, 2 + 3 * choice)))
        return np.array(actions)

    return policy


def right_choice(env):
    return (env.order == env.target[:, None]).argmax(1)


@pytest.mark.parametrize(("variant", "steps", "paid"), [("shm", 113, 10), ("original", 85, 5)])
def test_key_and_door(variant, steps, paid):
    def policy(env):
        return fetch_key(env) if chapter(env) == 0 else gather(env) if chapter(env) == 1 else np.full(N, NORTH)

    env = KeyToDoor(N, variant)
    _, rewards, success = play(env, policy)
    assert len(rewards) == env.max_steps == steps
    assert success.all()
    begin = env.begins
    assert not rewards[: begin[1]].any()
    np.testing.assert_array_equal(rewards[begin[2] :].sum(0), paid)
    assert (rewards[begin[2] + 1] == paid).all()  # two steps north
    assert not play(env, lambda env: np.full(N, SOUTH))[2].any()  # nothing stays from one episode to the next
    assert rewards[begin[1] : begin[2]].sum(0).mean() == pytest.approx({113: 35, 85: 21}[steps], abs=1.5)


def test_without_the_key_the_door_is_a_wall():
    views, rewards, success = play(KeyToDoor(N, num_apples=0), lambda env: np.full(N, NORTH if chapter(env) else SOUTH))
    assert not rewards.any()
    assert not success.any()
    np.testing.assert_array_equal(views[-1][:, 1, 2], np.tile((134, 206, 235), (N, 1)))  # it stands before the door


def test_the_door_stays_open_and_pays_once():
    env = KeyToDoor(N, "original", num_apples=0)
    env.reset(seed=0)
    while env.clock < env.begins[2]:
        env.step(fetch_key(env) if chapter(env) == 0 else np.full(N, SOUTH))
    rewards = [env.step(np.full(N, move))[1] for move in (NORTH, NORTH, SOUTH, NORTH)]  # through it, off it, on it again
    np.testing.assert_array_equal(np.stack(rewards, axis=1), np.tile([0, 5, 0, 0], (N, 1)))
    np.testing.assert_array_equal(env.player - MARGIN, np.tile([1, 5], (N, 1)))


def test_where_key_and_player_are_at_first():
    env = KeyToDoor(N)
    env.reset(seed=0)
    keys = np.argwhere(env.boards == KEY)[:, 1:] - MARGIN
    assert set(map(tuple, keys.tolist())) == {(row, column) for row in (1, 2) for column in range(3, 8)}
    assert set(map(tuple, (env.player - MARGIN).tolist())) == {(row, column) for row in (4, 5) for column in range(3, 8)}


def test_views_of_key_to_door():
    env = KeyToDoor(N, explore_length=12)
    views, _, _ = play(env, lambda env: fetch_key(env) if chapter(env) == 0 else np.full(N, NORTH))
    assert views.dtype == np.uint8
    assert (views[:-2, :, 2, 2] == PLAYER_RGB).all()
    assert (views[-2, :, 2, 2] == (134, 206, 235)).all()  # the door lies above the player
    white = (views == 255).all(-1).sum((2, 3))
    assert (white.sum(0) == 1).all()  # the key was taken: one pixel, one step
    keys = (views == (159, 81, 44)).all(-1).sum((2, 3))
    taken = white.argmax(0)
    assert (keys[taken - 1, np.arange(N)] == 1).all()
    assert (keys[taken, np.arange(N)] == 0).all()
    first_of_orchard = views[12]
    assert (first_of_orchard[:, 3] == WALL_RGB).all()
    assert (first_of_orchard[:, 4] == FLOOR_RGB).all()  # beyond the board
    exit = views[env.begins[2]]
    assert (exit[:, 0, 2] == (134, 206, 235)).all()
    assert (exit[:, 0, [1, 3]] == WALL_RGB).all()


@pytest.mark.parametrize("colours", ["fixed", "per_episode"])
@pytest.mark.parametrize(("variant", "steps", "paid"), [("shm", 125, 10), ("original", 90, 5)])
def test_visual_match(variant, steps, paid, colours):
    env = VisualMatch(N, variant, num_apples=0, colours=colours)
    views, rewards, success = play(env, match(right_choice))
    assert len(rewards) == env.max_steps == steps
    assert success.all()
    np.testing.assert_array_equal(rewards.sum(0), paid)
    taken = rewards.argmax(0) - env.begins[2]
    assert set(taken + 1) == {4, 7}
    around = views[0].reshape(N, 25, 3)[:, [6, 7, 8, 11, 13, 16, 17, 18]]
    assert (views[: env.begins[1]] == views[0]).all()  # it cannot move
    assert ((around == WALL_RGB).all(-1).sum(1) == 7).all()
    coloured = around[(around != WALL_RGB).any(-1)]
    if colours == "fixed":
        np.testing.assert_array_equal(taken + 1 == 4, (coloured == (0, 255, 0)).all(-1))
    assert {tuple(pixel) for pixel in coloured.tolist()} == {(255, 0, 0), (0, 255, 0), (0, 0, 255)}
    assert len({tuple(np.flatnonzero((row != WALL_RGB).any(-1))) for row in around}) == 8


def test_the_order_of_colours():
    def orders(colours):
        env = VisualMatch(N, colours=colours)
        env.reset(seed=0)
        return {tuple(order) for order in env.order.tolist()}

    assert orders("fixed") == {(RED, RED + 1, BLUE)}
    assert len(orders("per_episode")) == 6


def test_there_is_one_choice():
    def wrong_then_right(env):
        if chapter(env) < 2 or env.clock < env.begins[2] + 4:
            return np.full(N, NORTH)  # the one in the middle
        return match(right_choice)(env)

    env = VisualMatch(N, num_apples=0, reward_length=30)
    views, rewards, success = play(env, wrong_then_right)
    assert success.mean() == pytest.approx(1 / 3, abs=0.1)  # as good as without memory
    assert set(rewards.sum(0)) == {0, 10}
    after = views[env.begins[2] + 4 :]
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        assert not (after == colour).all(-1).any()


@pytest.mark.parametrize(("world", "mean", "most"), [(KeyToDoor, 8.9, 0.02), (VisualMatch, 9.0, 0.05)])
def test_random_actions_gather_a_few_apples_and_no_more(world, mean, most):
    rng = np.random.default_rng(0)
    _, rewards, success = play(world(N), lambda env: rng.integers(4, size=N))
    assert rewards.sum(0).mean() == pytest.approx(mean, abs=0.6)
    assert success.mean() <= most


def test_an_apple_is_back_after_a_time():
    env = KeyToDoor(1, explore_length=1, num_apples=22, apple_reward=0.5, distractor_length=60)
    env.reset(seed=0)
    rewards = [env.step(np.array([move]))[1][0] for move in (SOUTH, EAST, EAST, *[SOUTH] * 30)]
    # the first move is the last of the first chapter; taken at step 2 of the second, the apple is back at step 23, and who
    # stands there takes it with step 24
    assert np.flatnonzero(rewards).tolist() == [2, 24]
    assert set(rewards) == {0, 0.5}

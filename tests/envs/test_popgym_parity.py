"""Our batched tasks against the `popgym` package, step by step."""

import gymnasium
import numpy as np
import popgym  # noqa: F401  registers the originals
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from hadamem.envs import make_vector
from hadamem.envs.popgym import TASKS

N = 5
EARLY = [id for id in TASKS if "Battleship" in id or "Concentration" in id]  # a good player ends these early


def original(id):
    make = lambda: gymnasium.make(id, disable_env_checker=True)  # noqa: E731
    return SyncVectorEnv([make] * N, autoreset_mode=AutoresetMode.SAME_STEP)


def assert_same(ours, theirs):
    if isinstance(theirs, tuple):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
    else:
        np.testing.assert_array_equal(ours, theirs)


def assert_same_step(ours, theirs):
    for a, b in zip(ours[:4], theirs[:4], strict=True):
        assert_same(a, b)
    assert ours[4].keys() == theirs[4].keys()
    if "final_obs" in theirs[4]:
        assert_same(ours[4]["_final_obs"], theirs[4]["_final_obs"])
        assert_same(ours[4]["_final_info"], theirs[4]["_final_info"])
        for a, b in zip(ours[4]["final_obs"], theirs[4]["final_obs"], strict=True):
            assert (a is None) == (b is None)
            assert_same(a, b)


def shoot(env, rng):
    """A cell of a ship that is still afloat, mostly."""
    afloat = np.argwhere((env.board == 1) & (env.guesses == 0))
    return afloat[rng.integers(len(afloat))] if rng.random() < 0.8 else rng.integers(env.board_size, size=2)


def turn(env, rng):
    """A card that is still down, mostly, and mostly the one that matches."""
    if rng.random() < 0.05:
        return rng.integers(env.deck.num_cards)
    values, held = env.deck_idx_type[env.deck.idx], env.deck["in_play_idx"]
    down = np.ones(len(values), bool)
    down[env.deck["face_up_idx"] + held] = False
    matching = np.flatnonzero(down & (values == values[held[0]])) if held else np.flatnonzero(down)
    return rng.choice(matching)


@pytest.mark.parametrize("id", TASKS)
def test_spaces_and_length_are_those_of_the_original(id):
    ours, theirs = TASKS[id](N), original(id)
    for name in ("single_observation_space", "single_action_space", "observation_space", "action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    env = theirs.envs[0].unwrapped
    assert ours.max_steps == getattr(env, "max_episode_length", getattr(env, "episode_length", None))
    assert ours.obs_requires_prev_action == env.obs_requires_prev_action


@pytest.mark.parametrize("seed", [0, 1, 12345])
@pytest.mark.parametrize("id", TASKS)
def test_random_actions(id, seed):
    ours, theirs = TASKS[id](N), original(id)
    assert_same(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])
    theirs.action_space.seed(seed)
    ended = 0
    for _ in range(2 * ours.max_steps + 3):
        action = theirs.action_space.sample()
        step = theirs.step(action)
        assert_same_step(ours.step(action), step)
        ended += (step[2] | step[3]).sum()
    assert ended >= 2 * N
    assert_same(ours.reset()[0], theirs.reset()[0])  # goes on with the same streams


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("id", EARLY)
def test_good_actions_that_end_episodes_early(id, seed):
    ours, theirs = TASKS[id](N), original(id)
    ours.reset(seed=seed), theirs.reset(seed=seed)
    play, rng = (shoot if "Battleship" in id else turn), np.random.default_rng(seed)
    lengths, early, alone = np.zeros(N, int), 0, 0
    for _ in range(2 * ours.max_steps):
        action = np.stack([play(env.unwrapped, rng) for env in theirs.envs])
        step = theirs.step(action)
        assert_same_step(ours.step(action), step)
        lengths += 1
        early += (step[2] & (lengths < ours.max_steps)).sum()
        alone += 0 < step[2].sum() < N
        lengths[step[2] | step[3]] = 0
    assert early > N
    assert alone > 0


def test_a_step_that_is_terminated_and_truncated_is_terminated():
    id = "popgym-BattleshipEasy-v0"
    envs = [make_vector(id, 2, 3, batched=batched) for batched in (True, False)]
    for env in envs:
        env.reset()
    boards = [env.unwrapped.board for env in envs[1]._env.envs]
    water_first = np.stack([np.argsort(board.ravel(), kind="stable") for board in boards])
    for t, cells in enumerate(water_first.T):
        for env in envs:
            step = env.step(np.stack([cells // 8, cells % 8], axis=1))
            assert step.terminated.tolist() == [t == 63] * 2
            assert not step.truncated.any()
            assert step.final_obs is None
    assert [e.length for e in step.episodes] == [64, 64]


@pytest.mark.parametrize("id", TASKS)
def test_vector_environment_is_the_same_with_and_without_batching(id):
    pair = [make_vector(id, 3, 11, ("obs", "action", "reward"), batched=batched) for batched in (True, False)]
    assert pair[0].layout == pair[1].layout
    torch.testing.assert_close(*[env.reset() for env in pair], rtol=0, atol=0)
    for _ in range(320):
        actions = [env.random_actions() for env in pair]
        torch.testing.assert_close(*actions, rtol=0, atol=0)
        ours, theirs = [env.step(action) for env, action in zip(pair, actions, strict=True)]
        assert ours.episodes == theirs.episodes
        for a, b in zip(ours[:6], theirs[:6], strict=True):
            assert (a is None) == (b is None)
            assert a is None or torch.equal(a, b)
        assert (pair[0].start == pair[1].start).all()


@pytest.mark.parametrize("id", TASKS)
def test_saved_state_goes_on_identically(id, tmp_path):
    first = make_vector(id, 3, 5, ("obs", "action", "reward"))
    first.reset()
    for _ in range(70):  # into the second episode of the shorter ones
        first.step(first.random_actions())
    torch.save(first.state_dict(), tmp_path / "state.pt")
    expected = [first.step(first.random_actions()) for _ in range(320)]

    second = make_vector(id, 3, 99, ("obs", "action", "reward"))
    second.reset(), second.step(second.random_actions())
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    obs = second.load_state_dict(saved)
    torch.testing.assert_close(obs, saved["obs"], rtol=0, atol=0)
    assert sum(len(step.episodes) for step in expected) > 0
    for step in expected:
        again = second.step(second.random_actions())
        assert again.episodes == step.episodes
        for a, b in zip(again[:6], step[:6], strict=True):
            assert (a is None) == (b is None)
            assert a is None or torch.equal(a, b)

"""What holds for every task of hadamem."""

import inspect
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from hadamem.envs import MaskVelocity, list_tasks, make_vector, tasks
from hadamem.envs.border import Environments
from hadamem.envs.worlds import WITHOUT_VELOCITY, WORLDS

N = 4
SHORT = {  # options that make an episode short
    "hadamem/Wind-v0": {"horizon": 9, "radius": 0.5},
    "hadamem/PointRobot-v0": {"horizon": 6, "radius": 0.8},
    "hadamem/KeyToDoor-v0": {"distractor_length": 50, "respawn": 3, "final_reward": 2.0},
    "hadamem/VisualMatch-v0": {"distractor_length": 50, "respawn": 3, "colours": "per_episode"},
    "hadamem/TMazePassive-v0": {"corridor_length": 7},
    "hadamem/TMazeActive-v0": {"corridor_length": 7},
    "hadamem/EndlessTMaze-v0": {"corridor_length": 2, "num_corridors": 2},
    "hadamem/DelayedCatch-v0": {"runs": 3},
    "hadamem/PocMemory-v0": {"step_size": 0.5, "max_steps": 7},
}
# truncated after their longest episode
CUT = ("hadamem/Wind-v0", "hadamem/PointRobot-v0", "hadamem/PocMemory-v0", "hadamem/EndlessTMaze-v0")
WAITS = {"hadamem/EndlessTMaze-v0": 1}  # an action that leads nowhere, where random play never takes the longest time
VARIANTS = ["hadamem/Wind-v0", "hadamem/PointRobot-v0", "hadamem/KeyToDoor-v0", "hadamem/VisualMatch-v0"]


def assert_same_info(ours, theirs, num_envs):
    assert {name for name in ours if name[0] != "_"} == {name for name in theirs if name[0] != "_"}
    for name, value in theirs.items():
        if name[0] == "_":
            np.testing.assert_array_equal(ours[name], value)
        elif name == "final_info":
            assert_same_info(ours[name], value, num_envs)
        else:
            for i in np.flatnonzero(theirs[f"_{name}"]):
                np.testing.assert_array_equal(ours[name][i], value[i])
                assert ours[name].dtype == value.dtype


@pytest.mark.parametrize("id", WORLDS)
@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
def test_gymnasiums_checker_is_content(id, render_mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*A Box observation space .* is -?infinity")  # positions are unbounded
        env = gymnasium.make(id, render_mode=render_mode, **SHORT[id])
        check_env(env.unwrapped, skip_render_check=render_mode is None)


@pytest.mark.parametrize("id", WORLDS)
def test_a_batch_equals_single_environments_step_by_step(id):
    single = lambda: gymnasium.make(id, disable_env_checker=True, **SHORT[id])  # noqa: E731
    theirs = SyncVectorEnv([single] * N, autoreset_mode=AutoresetMode.SAME_STEP)
    ours = gymnasium.make_vec(id, N, vectorization_mode="vector_entry_point", **SHORT[id])
    assert (ours.single_observation_space, ours.single_action_space) == (
        theirs.single_observation_space,
        theirs.single_action_space,
    )
    (obs, info), (expected, expected_info) = ours.reset(seed=5), theirs.reset(seed=5)
    np.testing.assert_array_equal(obs, expected)
    assert_same_info(info, expected_info, N)
    theirs.action_space.seed(0)
    ended = 0
    for _ in range(3 * ours.max_steps + 2):
        action = theirs.action_space.sample()
        step, expected = ours.step(action), theirs.step(action)
        for a, b in zip(step[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        assert ours.observation_space.contains(step[0])
        info, expected_info = step[4], expected[4]
        assert ("final_obs" in info) == ("final_obs" in expected_info)
        if "final_obs" in info:
            ended += 1
            final, expected_final = info.pop("final_obs"), expected_info.pop("final_obs")
            for i in np.flatnonzero(expected_info["_final_obs"]):
                np.testing.assert_array_equal(final[i], expected_final[i])
            assert "success" in info["final_info"]
        assert_same_info(info, expected_info, N)
    assert ended >= 3


@pytest.mark.parametrize("id", WORLDS)
def test_make_vector_batches_them_with_their_options(id):
    pair = [make_vector(id, 3, 11, batched=batched, **SHORT[id]) for batched in (True, False)]
    assert [type(env._env) is Environments for env in pair] == [False, True]
    assert pair[0].layout == pair[1].layout
    assert torch.equal(*[env.reset() for env in pair])
    for _ in range(70):
        actions = pair[0].random_actions()
        ours, theirs = [env.step(actions) for env in pair]
        assert ours.episodes == theirs.episodes
        for name in ("obs", "reward", "terminated", "truncated", "start", "at_goal"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize("id", WORLDS)
def test_a_seed_decides_everything_and_nothing_else_does(id):
    def play(seed, env):
        frames = [env.reset(seed=seed)[0]]
        for action in np.random.default_rng(3).integers(env.action_space.n if discrete else 3, size=60):
            np.random.seed(None)
            frame, _, terminated, truncated, _ = env.step(action if discrete else np.full(2, action / 2 - 0.5, np.float32))
            frames.append(frame)
            if terminated or truncated:
                frames.append(env.reset()[0])
        return np.stack(frames)

    env, other = (gymnasium.make(id, disable_env_checker=True, **SHORT[id]) for _ in range(2))
    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    first = play(1, env)
    np.random.seed(0)
    global_state = np.random.get_state()[1].copy()
    gymnasium.make(id, **SHORT[id]).reset(seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], global_state)
    np.testing.assert_array_equal(play(1, other), first)
    np.testing.assert_array_equal(play(1, env), first)
    assert not all(np.array_equal(play(seed, env), first) for seed in (2, 3, 4))


@pytest.mark.parametrize("id", WORLDS)
def test_a_saved_state_goes_on_identically(id, tmp_path):
    first = make_vector(id, 3, 5, **SHORT[id])
    first.reset()
    for _ in range(first._env.max_steps + 4):
        first.step(first.random_actions())
    torch.save(first.state_dict(), tmp_path / "state.pt")
    expected = [first.step(first.random_actions()) for _ in range(80)]
    second = make_vector(id, 3, 99, **SHORT[id])
    second.reset()
    for _ in range(7):
        second.step(second.random_actions())
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in expected:
        again = second.step(second.random_actions())
        assert again.episodes == step.episodes
        assert all(torch.equal(getattr(again, name), getattr(step, name)) for name in ("obs", "reward", "start", "at_goal"))


@pytest.mark.parametrize("id", WORLDS)
def test_pictures_change_with_the_world(id):
    env = gymnasium.make(id, render_mode="rgb_array", **SHORT[id])
    env.reset(seed=0)
    pictures = [env.render()]
    for _ in range(18):
        if any(env.step(env.action_space.sample())[2:4]):
            env.reset()
        pictures.append(env.render())
    assert {picture.dtype for picture in pictures} == {np.dtype(np.uint8)}
    assert pictures[0].shape[2] == 3
    assert any((picture != pictures[0]).any() for picture in pictures if picture.shape == pictures[0].shape)
    vector = gymnasium.make_vec(id, 2, vectorization_mode="vector_entry_point", render_mode="rgb_array")
    vector.reset(seed=0)
    assert len(vector.render()) == 2


@pytest.mark.parametrize("id", WORLDS)
def test_it_is_listed_with_true_spaces_and_length(id):
    (row,) = (row for row in list_tasks() if row.name == id)
    env = gymnasium.make(id)
    env.reset(seed=0)
    env.action_space.seed(0)
    longest = (0, False)
    for _ in range(20):
        steps, over = 0, False
        while not over:
            _, _, terminated, truncated, _ = env.step(WAITS.get(id, env.action_space.sample()))
            over, steps = terminated or truncated, steps + 1
        longest = max(longest, (steps, truncated))
        env.reset()
    assert longest == (row.max_steps, id in CUT)
    assert row.source == "hadamem"
    assert row.batched
    assert row.observation
    assert row.action


@pytest.mark.parametrize("id", VARIANTS)
def test_an_explicit_option_wins_over_the_variant(id):
    original = WORLDS[id](1, variant="original").max_steps
    assert original != WORLDS[id](1).max_steps
    name = "horizon" if "horizon" in inspect.signature(WORLDS[id]).parameters else "explore_length"
    assert WORLDS[id](1, variant="original", **{name: 3}).max_steps < original
    with pytest.raises(ValueError, match="variant is 'paper'; it must be one of shm, original"):
        WORLDS[id](1, variant="paper")


@pytest.mark.parametrize(
    ("id", "options", "message"),
    [
        ("Wind", {"split": "test"}, "split is 'test'; it must be one of train, eval, all"),
        ("Wind", {"num_train": 201}, "num_train is 201 of num_tasks 200"),
        ("Wind", {"num_train": 200, "split": "eval"}, "no tasks are left for split 'eval'"),
        ("PointRobot", {"trials": 0}, "trials is 0; it must be above 0"),
        ("TMazePassive", {"corridor_length": 0}, "corridor_length is 0; it must be above 0"),
        ("KeyToDoor", {"num_apples": 23}, "num_apples is 23; there is room for 0 to 22"),
        ("VisualMatch", {"colours": "free"}, "colours is 'free'; it must be fixed or per_episode"),
        ("DelayedCatch", {"runs": 0}, "runs is 0; it must be above 0"),
        ("PocMemory", {"step_size": 0.3}, "step_size is 0.3; it must be 1 / n for a whole number n"),
        ("PocMemory", {"show_steps": 0}, "show_steps is 0; it must be above 0"),
        ("DelayedCatch", {"run": 1}, "DelayedCatch-v0 cannot be made with .*'run'"),
    ],
)
def test_wrong_options_are_named_with_the_right_ones(id, options, message):
    with pytest.raises(ValueError, match=message):
        make_vector(f"hadamem/{id}-v0", 1, 0, **options)


def test_options_from_text():
    id = "hadamem/Wind-v0"
    texts = ["variant=original", "radius=0.02", "horizon=30", "goal=0,-1", "split=all", "num_train=none"]
    options = tasks.parse_options(id, texts)
    assert options == {
        "variant": "original", "radius": 0.02, "horizon": 30, "goal": (0, -1), "split": "all", "num_train": None,
    }  # fmt: skip
    assert make_vector(id, 1, 0, **options).num_tasks == 60
    assert tasks.parse_options("CartPole-v1", ["max_episode_steps=7", "sutton_barto_reward=true", "render_mode=rgb_array"]) == {
        "max_episode_steps": 7, "sutton_barto_reward": True, "render_mode": "rgb_array",
    }  # fmt: skip
    for text, message in (
        ("horizon=long", "of type int or none"),
        ("num_envs=3", "must be name=value with a name that hadamem/Wind-v0 has: variant"),
        ("split=test", "one of train, eval, all"),
        ("goal=1", "numbers like 1,1"),
    ):
        with pytest.raises(ValueError, match=message):
            tasks.parse_options(id, [text])


@pytest.mark.parametrize("id", WITHOUT_VELOCITY)
def test_without_velocity_it_is_gymnasiums_own_under_the_wrapper(id):
    if "Lander" in id:
        pytest.importorskip("Box2D", reason="LunarLander needs Box2D")
    masked = f"hadamem/{gymnasium.spec(id).name}NoVel-v0"
    env, expected = gymnasium.make(masked), MaskVelocity(gymnasium.make(id))
    assert env.observation_space == expected.observation_space
    assert env.action_space == expected.action_space
    np.testing.assert_array_equal(env.reset(seed=3)[0], expected.reset(seed=3)[0])
    over, steps = False, 0
    env.action_space.seed(0)
    while not over:
        action = env.action_space.sample()
        step, expected_step = env.step(action), expected.step(action)
        np.testing.assert_array_equal(step[0], expected_step[0])
        assert step[1:4] == expected_step[1:4]
        over, steps = step[2] or step[3], steps + 1
    assert steps <= gymnasium.spec(masked).max_episode_steps == gymnasium.spec(id).max_episode_steps
    (row,) = (row for row in list_tasks() if row.name == masked)
    assert (row.source, row.max_steps) == ("hadamem", gymnasium.spec(id).max_episode_steps)


def test_without_velocity_it_is_gymnasiums_newest():
    for id in WITHOUT_VELOCITY:
        versions = [spec.version for spec in gymnasium.registry.values() if (spec.namespace, spec.name) == (None, id[:-3])]
        assert gymnasium.spec(id).version == max(versions)


def test_importing_them_does_not_need_box2d():
    code = "import sys, hadamem.envs, gymnasium; gymnasium.spec('hadamem/LunarLanderNoVel-v0'); print('Box2D' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

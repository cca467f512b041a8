"""A recording is what happened: the recurrence can be recomputed from it, and the episode is the one that was played."""

from __future__ import annotations

import os
import pathlib
import re
import sys
import types
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from hadamem.agents import PPOConfig, TrainConfig
from hadamem.agents.making import make_environment, make_policy
from hadamem.agents.training import load_policy
from hadamem.envs import VectorEnvironment
from hadamem.watch import Recording, record

Recorded = Callable[..., Recording]
REPEAT = "popgym-RepeatPreviousEasy-v0"


@pytest.mark.parametrize(
    ("memory", "options", "calibration", "heads", "layers"),
    [
        ("shm", (), "tanh_outer", 1, 1),
        ("shm", ("heads=2", "layers=2"), "tanh_outer", 2, 2),
        ("shm", ("calibration=neural",), "dense", 1, 1),
        ("mlstm", (), "scalar", 1, 1),
        ("gla", (), "column", 1, 1),
        ("mamba", (), "exp_outer", 1, 1),
        ("linear_attention", (), "ones", 1, 1),
    ],
)
def test_recurrence_holds(recorded: Recorded, memory: str, options: tuple, calibration: str, heads: int, layers: int) -> None:
    made = recorded(REPEAT, memory, options)
    assert len(made.hadamard) == layers
    for trace in made.hadamard:
        assert trace.calibration == calibration
        assert trace.memory.shape[:2] == (len(made.rewards), heads)
        M, C, U = trace.memory, trace.calibrations(), trace.writes()
        assert np.abs(U).max() > 0
        before = np.concatenate([np.zeros_like(M[:1]), M[:-1]])
        np.testing.assert_allclose(M, before * C + U, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(trace.h, np.einsum("thvk,thk->thv", M, trace.q), rtol=1e-4, atol=1e-5)
    assert not any(name.endswith("memory") for name in made.states)  # it is told already


def test_episode_and_vector_state(recorded: Recorded) -> None:
    made = recorded(REPEAT, "gru")
    T = len(made.rewards)
    assert made.episode is not None
    assert made.episode.length == T
    assert made.episode.return_ == pytest.approx(made.rewards.sum(), abs=1e-5)
    assert list(made.states) == ["hidden"]
    assert made.states["hidden"].shape == (T, 8)
    assert (made.states["hidden"][1:] != made.states["hidden"][:-1]).any()
    assert not made.pictures
    assert set(made.texts) <= set("0123")
    assert made.probabilities is not None
    assert (made.probabilities.argmax(1) == made.actions[:, 0]).all()  # greedy
    assert made.values is not None
    assert made.values.shape == (T,)


def test_frames_and_cut(recorded: Recorded) -> None:
    made = recorded("hadamem/TMazePassive-v0", "gru", (), ("corridor_length=6",))
    assert made.rendered
    assert len(made.pictures) == len(made.texts) == len(made.rewards) == 7
    assert made.pictures[0].dtype == np.uint8
    cut = recorded("hadamem/TMazePassive-v0", "gru", (), ("corridor_length=6",), steps=3)
    assert len(cut.rewards) == 3
    assert cut.episode is None
    assert "first 3 steps" in cut.notes[0]


def test_inner_episodes(recorded: Recorded) -> None:
    made = recorded("hadamem/PointRobot-v0", "delta_net", (), ("horizon=9",))
    assert made.inner_starts == [9]
    assert made.states["memory"].shape == (18, 8, 8)
    assert made.probabilities is None
    assert (np.abs(made.actions) <= 1).all()


def test_the_first_task_of_a_list_as_in_an_evaluation(
    tmp_path: pathlib.Path, small_run: Callable[..., pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, config = load_policy(small_run(tmp_path / "run", "hadamem/Wind-v0", "gru"))
    asked, reset = [], VectorEnvironment.reset
    monkeypatch.setattr(VectorEnvironment, "reset", lambda env, tasks=None: asked.append(tasks) or reset(env, tasks))
    record(policy, config, 0, 3)
    assert asked[-1] == range(1)


def test_same_seed_same_episode(tmp_path: pathlib.Path, small_run: Callable[..., pathlib.Path]) -> None:
    policy, config = load_policy(small_run(tmp_path / "run", REPEAT, "shm"))
    first, again, other = (record(policy, config, seed, 10) for seed in (0, 0, 1))
    assert first.texts == again.texts
    np.testing.assert_array_equal(first.hadamard[0].memory, again.hadamard[0].memory)
    assert first.texts != other.texts
    with pytest.raises(ValueError, match="steps is 0"):
        record(policy, config, 0, 0)


class Drawn(gymnasium.Env):
    """Draws itself by `draw`, and remembers the actions that it got."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    got: ClassVar[list[list[float]]] = []

    def __init__(self, render_mode: str | None = None, draw: Any = None, action_space: Any = None) -> None:
        self.render_mode, self.draw = render_mode, draw
        self.action_space = action_space or spaces.Discrete(2)
        if draw is None:
            assert render_mode is None, "there is nothing to see"

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        self.got.append(np.array(action).ravel().tolist())
        return np.zeros(2, np.float32), 1.0, False, False, {}

    def render(self) -> Any:
        return self.draw(self.t)


def no_screen(t: int) -> Any:
    raise RuntimeError("video system not initialized")


def gray(t: int) -> np.ndarray:
    return np.full((8, 8, 3), 10 * t, np.uint8)


def drawn(name: str, **how: Any) -> Recording:
    gymnasium.register(name, Drawn, kwargs=how)
    config = TrainConfig(name, memory="gru", memory_size=8, ppo=PPOConfig(num_envs=2, num_steps=8, minibatches=1))
    policy = make_policy(config, make_environment(config, 2, 0))
    Drawn.got.clear()
    return record(policy, config, 0, 4, greedy=False)


@pytest.mark.parametrize(
    ("name", "draw", "shades", "note"),
    [
        ("DrawnWell-v0", gray, [0, 10, 20, 30], None),
        ("DrawnNever-v0", no_screen, [], "frames are not drawn: .*RuntimeError: video system not initialized"),
        ("DrawnAssert-v0", None, [], "frames are not drawn: .*AssertionError: there is nothing to see"),
        (
            "DrawnOnce-v0",
            lambda t: no_screen(t) if t == 2 else gray(t),
            [0, 10, 10, 30],
            "where a frame was not drawn, the one before it is shown: .* step 2 of the episode: .*not initialized",
        ),
        (
            "DrawnNone-v0",
            lambda t: None if t == 1 else gray(t),
            [0, 0, 20, 30],
            "where a frame was not drawn, the one before it is shown$",
        ),
    ],
)
def test_what_cannot_be_drawn_is_told_and_the_episode_goes_on(
    name: str, draw: Any, shades: list[int], note: str | None
) -> None:
    made = drawn(name, draw=draw)
    assert len(made.rewards) == 4
    assert [int(picture.max()) for picture in made.pictures] == shades
    *notes, last = made.notes
    assert "only the first 4 steps" in last
    assert len(notes) == (note is not None)
    assert note is None or re.match(note, notes[0])


@pytest.mark.parametrize(
    ("imported", "variables", "chosen"),
    [
        (True, {}, "egl"),
        (False, {}, None),  # importing it would fail where there is no EGL
        (True, {"DISPLAY": ":0"}, None),
        (True, {"MUJOCO_GL": "osmesa"}, "osmesa"),
    ],
)
def test_mujoco_draws_without_a_screen(
    monkeypatch: pytest.MonkeyPatch, imported: bool, variables: dict[str, str], chosen: str | None
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.setenv(name, "")  # to be put back afterwards, whatever is set here
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    if imported:
        monkeypatch.setitem(sys.modules, "mujoco", types.ModuleType("mujoco"))
    found = []
    made = drawn(
        f"DrawnMujoco{len(gymnasium.registry)}-v0", draw=lambda t: found.append(os.environ.get("MUJOCO_GL")) or gray(t)
    )
    assert len(made.pictures) == 4
    assert set(found) == {chosen}


@pytest.mark.parametrize(
    ("name", "space", "first"),
    [
        ("DrawnFrom5-v0", spaces.Discrete(3, start=5), 5),
        ("DrawnDigits-v0", spaces.MultiDiscrete([3, 4], start=[10, 20]), 0),
        ("DrawnWhole-v0", spaces.Box(0, 4, (2,), np.int64), 0),
        ("DrawnBox-v0", spaces.Box(-1, 1, (2, 1), np.float32), 0),
    ],
)
def test_actions_are_shown_as_the_environment_got_them(name: str, space: Any, first: int) -> None:
    made = drawn(name, draw=gray, action_space=space)
    np.testing.assert_array_equal(made.actions, Drawn.got)
    assert made.first_action == first

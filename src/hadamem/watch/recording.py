"""Records one episode of a policy step by step, with the memory's content, writes and reads.

Letters: T steps, K numbers in an action.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..agents.config import TrainConfig, seed_for
from ..agents.making import make_environment
from ..agents.rollout import Player
from ..checks import check_number
from ..envs import Episode, VectorEnvironment
from ..networks import Policy
from ..networks.heads import Categorical
from ..ops import CALIBRATIONS, HadamardCall, observe_hadamard
from ..ops.reference import calibration_matrix

#: Largest amount of numbers of one leaf of the state over a whole episode; with more, a page would be too large to open.
MOST_NUMBERS = 4_000_000
_LONGEST_LIST = 32  # largest amount of numbers of an observation that are shown as text


@dataclass
class HadamardTrace:
    """A Hadamard memory over an episode: M_t = M_{t-1} * C_t + a_t k_t^T, h_t = M_t q_t, with M_{-1} = 0.

    Attributes:
        calibration: how C is computed from the factors, see `hadamem.ops.hadamard_memory`.
        factors: the factors of C by name: (T, heads, ...), or without T and heads if a factor is the same at every step.
        a, k: the written values (T, heads, V) and their keys (T, heads, K).
        q, h: the queries (T, heads, K) and the values that are read (T, heads, V).
        memory: M after each step, (T, heads, V, K).
    """

    calibration: str
    factors: dict[str, np.ndarray]
    a: np.ndarray
    k: np.ndarray
    q: np.ndarray
    h: np.ndarray
    memory: np.ndarray

    @classmethod
    def of(cls, calls: list[HadamardCall]) -> HadamardTrace:
        """Make a trace from the calls in T steps of one row; the batch dimension of a call holds the heads of the memory."""

        def steps(name: str) -> np.ndarray:
            return np.stack([_numpy(getattr(call, name)[:, 0]) for call in calls])

        first = calls[0]
        factors = {}
        for i, (name, dims) in enumerate(CALIBRATIONS[first.calibration].items()):
            over_time = "T" in dims
            factors[name] = np.stack([_numpy(c.factors[i][:, 0]) for c in calls]) if over_time else _numpy(first.factors[i])
        memory = np.stack([_numpy(call.last) for call in calls])
        return cls(first.calibration, factors, steps("a"), steps("k"), steps("q"), steps("h"), memory)

    def calibrations(self) -> np.ndarray:
        """C of each step, (T, heads, V, K)."""
        C = calibration_matrix(self.calibration, [torch.from_numpy(factor) for factor in self.factors.values()])
        return np.broadcast_to(np.asarray(C), self.memory.shape)

    def writes(self) -> np.ndarray:
        """U_t = a_t k_t^T, (T, heads, V, K)."""
        return self.a[..., :, None] * self.k[..., None, :]


@dataclass
class Recording:
    """A recorded episode.

    Attributes:
        config: configuration of the run.
        mode: "greedy" or "sampled" actions.
        seed: seed of the episode, as given to `record`.
        pictures: T pictures (height, width, 3) uint8, before each action; empty if there are neither frames nor images.
        rendered: whether the pictures are frames that the environment rendered; otherwise they are observations.
        texts: T observations as text; "" for an observation that is an image only.
        actions: (T, K), as the environment got them.
        first_action: the lowest number of an action, if an action is a single choice.
        probabilities: (T, A) probabilities of the actions, if an action is a single choice among A.
        rewards: (T,).
        values: (T,), the critic's values; None if the policy has no critic.
        hadamard: traces of the Hadamard memories, in the order of their layers.
        states: all other leaves of the memory's state after each step, by name, (T, ...).
        inner_starts: steps at which an inner episode begins, if there are several.
        episode: the finished episode; None if the recording stopped before its end.
        notes: what is missing in the recording, and why.
    """

    config: TrainConfig
    mode: str
    seed: int
    pictures: list[np.ndarray] = field(default_factory=list)
    rendered: bool = False
    texts: list[str] = field(default_factory=list)
    actions: np.ndarray = field(default_factory=lambda: np.zeros((0, 1)))
    first_action: int = 0
    probabilities: np.ndarray | None = None
    rewards: np.ndarray = field(default_factory=lambda: np.zeros(0))
    values: np.ndarray | None = None
    hadamard: list[HadamardTrace] = field(default_factory=list)
    states: dict[str, np.ndarray] = field(default_factory=dict)
    inner_starts: list[int] = field(default_factory=list)
    episode: Episode | None = None
    notes: list[str] = field(default_factory=list)


@torch.no_grad()
def record(
    policy: Policy,
    config: TrainConfig,
    seed: int,
    steps: int,
    greedy: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Recording:
    """Play one episode.

    Args:
        policy: the policy that plays.
        config: configuration of its run; the environment has the options of evaluations.
        seed: seed of all random generators; the environment is the first one of an evaluation with this seed.
        steps: largest number of steps, at least 1.
        greedy: take the most likely action instead of a random one.
        progress: called with the number of steps made so far.
    """
    check_number("steps", steps, at_least=1)
    made = Recording(config, "greedy" if greedy else "sampled", seed)
    config = replace(config, env_options=config.env_options + config.evaluate_options)
    seed = seed_for(seed, "evaluation")
    env = _drawing_environment(config, seed, made)
    if policy.described:
        env.require(policy.described)
    torch.manual_seed(seed)
    calls: list[HadamardCall] = []
    trace: dict[str, list[Any]] = {name: [] for name in ("action", "parameters", "reward", "value", "calls", "state", "obs")}
    try:
        tasks = None if env.num_tasks is None else range(1)  # the first task of an evaluation
        player = Player(policy, env, tasks)
        while len(trace["reward"]) < steps and made.episode is None:
            trace["obs"].append(player.obs[0].cpu().numpy())
            _see(env, trace["obs"][-1], made)
            with observe_hadamard(calls.append):
                parameters, *value, player.state = policy(player.obs[:, None], player.state, player.start[:, None])
            action = (policy.head.mode if greedy else policy.head.sample)(parameters[:, 0])
            step = player.step(action)
            trace["action"].append(env.as_done(action)[0])
            trace["parameters"].append(parameters[0, 0].cpu())
            trace["value"] += [v.item() for v in value]
            trace["reward"].append(step.reward.item())
            trace["calls"].append(list(calls))
            trace["state"].append({name: _numpy(leaf[0]) for name, leaf in player.state.items()})
            calls.clear()
            made.episode = step.episodes[0] if step.episodes else None
            if progress is not None:
                progress(len(trace["reward"]))
    finally:
        _close(env)
    made.actions, made.rewards = np.stack(trace["action"]), np.array(trace["reward"], np.float32)
    made.values = np.array(trace["value"], np.float32) if trace["value"] else None
    if isinstance(policy.head, Categorical) and len(policy.head.counts) == 1:
        made.first_action = int(np.ravel(getattr(env.action_space, "start", 0))[0])
        made.probabilities = torch.stack(trace["parameters"]).softmax(-1).numpy()
    made.hadamard = [HadamardTrace.of(list(layer)) for layer in zip(*trace["calls"], strict=True)]
    made.states = _states(trace["state"], made)
    if made.episode is None:
        made.notes.append(f"only the first {steps} steps of the episode; --steps gives more")
    elif len(made.episode.inner_returns) > 1:  # PointRobot and RepeatTrials mark it by the last entry of the observation
        flag = env.layout.part("obs").size - 1
        made.inner_starts = [t for t, row in enumerate(trace["obs"]) if t and row[flag] == 1]
    return made


def _drawing_environment(config: TrainConfig, seed: int, made: Recording) -> VectorEnvironment:
    """Make one environment of the task, which renders frames if it can."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory, and does not look for a screen
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Gymnasium warns if an environment lacks the render_mode
            env = make_environment(config, 1, seed, render_mode="rgb_array")
        try:
            env.reset()
            _draw_without_screen()
            made.rendered = _frame(env) is not None
        finally:
            _close(env)
        if made.rendered:  # a new environment, since the trial above has used random numbers
            return make_environment(config, 1, seed, render_mode="rgb_array")
    except _NO_FRAMES:
        pass  # the environment has no such render_mode
    except Exception as error:  # no screen, no graphics library, or any other problem with rendering
        made.notes.append(f"frames are not drawn: {error}")
    return make_environment(config, 1, seed)


def _draw_without_screen() -> None:
    """Let MuJoCo render with EGL if there is no screen; by default it uses GLFW, which then fails when it renders.

    This is only set after MuJoCo was imported, since with this setting, but without EGL, importing MuJoCo would fail.
    """
    if sys.platform == "linux" and "mujoco" in sys.modules and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        os.environ.setdefault("MUJOCO_GL", "egl")


# Exceptions of environments that cannot render frames: there is no such option, or no such method.
_NO_FRAMES = (ValueError, TypeError, NotImplementedError, AttributeError, gymnasium.error.UnsupportedMode)


def _frame(env: VectorEnvironment) -> np.ndarray | None:
    frame = (env.render() or (None,))[0]
    drawn = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
    return frame if drawn else None


def _next_frame(env: VectorEnvironment, made: Recording) -> np.ndarray:
    """The frame of this step, or the latest frame if this one cannot be rendered."""
    note = "where a frame was not drawn, the one before it is shown"
    try:
        frame = _frame(env)
    except Exception as error:
        frame, note = None, f"{note}: {error}"
    if frame is not None:
        return frame.copy()
    if not any(known.startswith("where a frame") for known in made.notes):
        made.notes.append(note)
    return made.pictures[-1] if made.pictures else np.zeros((8, 8, 3), np.uint8)


def _close(env: VectorEnvironment) -> None:
    """Close an environment, ignoring errors."""
    with suppress(Exception):
        env.close()


def _see(env: VectorEnvironment, row: np.ndarray, made: Recording) -> None:
    """Add the picture and the text of a step."""
    layout = env.layout.part("obs")
    if made.rendered:
        made.pictures.append(_next_frame(env, made))
    elif layout.images:
        made.pictures.append(_picture(row[layout.images[0].columns].reshape(layout.images[0].shape)))
    if not layout.leaves:
        text = "not given to the agent"
    elif layout.images:
        text = "\n".join(f"{leaf.name}: {_words(row[leaf.columns])}" for leaf in layout.vectors)
    else:  # the columns are in the order of Gymnasium's own flattening
        text = _words(spaces.unflatten(env.observation_space, row[: layout.size]))
    made.texts.append(text)


def _picture(image: np.ndarray) -> np.ndarray:
    """(C, H, W) in 0..1 to (H, W, 3) uint8; if there are not 3 channels, they are shown side by side in grey."""
    if len(image) != 3:
        image = np.repeat(np.concatenate(image, axis=1)[None], 3, axis=0)
    return np.rint(np.moveaxis(image, 0, -1).clip(0, 1) * 255).astype(np.uint8)


def _words(value: Any) -> str:
    """An observation as text on one line, or with a line for each part of a Dict."""
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_words(part)}" for name, part in value.items())
    if isinstance(value, tuple):
        return f"({', '.join(map(_words, value))})"
    numbers = np.asarray(value)
    flat = [f"{x:.3g}" if numbers.dtype.kind == "f" else str(int(x)) for x in numbers.ravel()[:_LONGEST_LIST]]
    rest = numbers.size - len(flat)
    text = ", ".join([*flat, f"and {rest} more"] if rest else flat)
    return text if numbers.ndim == 0 else f"[{text}]"


def _states(steps: list[dict[str, np.ndarray]], made: Recording) -> dict[str, np.ndarray]:
    """The leaves of the state to show: no integers such as counters, and no leaf that is a recorded Hadamard memory already."""
    states: dict[str, np.ndarray] = {}
    for name, leaf in steps[-1].items():
        known = any(np.array_equal(leaf.ravel(), trace.memory[-1].ravel()) for trace in made.hadamard)
        if leaf.dtype.kind not in "fc" or leaf.size == 0 or known:
            continue
        if leaf.size * len(steps) > MOST_NUMBERS:
            most = MOST_NUMBERS // leaf.size
            made.notes.append(
                f"the state {name!r} has {leaf.size:,} numbers and is left out"
                + (f"; --steps {most} would show it" if most else "")
            )
            continue
        values = np.stack([step[name] for step in steps])
        if values.dtype.kind == "c":
            states |= {f"{name}, real part": values.real, f"{name}, imaginary part": values.imag}
        else:
            states[name] = values
    return {name: np.asarray(_flat(values), np.float32) for name, values in states.items()}


def _flat(values: np.ndarray) -> np.ndarray:
    """(T, ...) to (T, n), or to (T, rows, columns) with all but the last axis as rows."""
    inner = values.shape[1:]
    return values.reshape(len(values), math.prod(inner[:-1]), inner[-1]) if len(inner) > 1 else values.reshape(len(values), -1)


def _numpy(tensor: Tensor) -> np.ndarray:
    array = tensor.detach().cpu()
    return (array.float() if array.dtype in (torch.bfloat16, torch.float16, torch.float64) else array).numpy().copy()

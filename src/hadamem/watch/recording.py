"""One episode of a policy, step by step, with what its memory held, wrote and read. T steps, K numbers in an action."""

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

#: Numbers of one leaf of the state in a whole episode; beyond, it would make a page too large to open.
MOST_NUMBERS = 4_000_000
_LONGEST_LIST = 32  # numbers of an observation that are told as text


@dataclass
class HadamardTrace:
    """A Hadamard memory over an episode: M_t = M_{t-1} * C_t + a_t k_t^T, h_t = M_t q_t, with M_{-1} = 0.

    Attributes:
        calibration: how C comes from the factors, see `hadamem.ops.hadamard_memory`.
        factors: by name; (T, heads, ...), and without these two what is the same at every step.
        a, k: what is written where, (T, heads, V) and (T, heads, K).
        q, h: where is read what, (T, heads, K) and (T, heads, V).
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
        """From the calls of T steps of one row; what is a batch there are heads."""

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
    """An episode.

    Attributes:
        config: of the run.
        mode: "greedy" or "sampled".
        seed: of the episode, as it was given.
        pictures: T of (height, width, 3) uint8, before each action; none where there are neither frames nor images.
        rendered: whether these are what the environment draws, or else the observation.
        texts: T observations as text, "" where they are an image.
        actions: (T, K), as the environment got them.
        first_action: the lowest number of an action, where there is one choice.
        probabilities: (T, A) of the actions from the first on, where there is one choice of A.
        rewards: (T,).
        values: (T,), what a critic expected of the rest; None without one.
        hadamard: the Hadamard memories, from the input on.
        states: every other leaf of the memory's state after each step, by name, (T, ...).
        inner_starts: steps at which an inner episode begins, if there are several.
        episode: how it ended; None if it was cut at the given number of steps.
        notes: what is missing here, and why.
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
        policy: who plays.
        config: of its run; the environment is that of its evaluations.
        seed: of everything random; the environment is the first of an evaluation with this seed.
        steps: how many at most, at least 1.
        greedy: the most likely action instead of a random one.
        progress: called with the number of steps made.
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
        tasks = None if env.num_tasks is None else range(1)  # the first that an evaluation plays
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
    elif len(made.episode.inner_returns) > 1:  # both tasks and RepeatTrials raise a flag, last of the observation
        flag = env.layout.part("obs").size - 1
        made.inner_starts = [t for t, row in enumerate(trace["obs"]) if t and row[flag] == 1]
    return made


def _drawing_environment(config: TrainConfig, seed: int, made: Recording) -> VectorEnvironment:
    """The task once, drawing itself if it can."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory, and need not look for a screen
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Gymnasium warns of a render_mode that is not there
            env = make_environment(config, 1, seed, render_mode="rgb_array")
        try:
            env.reset()
            _draw_without_screen()
            made.rendered = _frame(env) is not None
        finally:
            _close(env)
        if made.rendered:  # made anew: what was drawn for trying must not count
            return make_environment(config, 1, seed, render_mode="rgb_array")
    except _NO_FRAMES:
        pass  # it has no such render_mode
    except Exception as error:  # no screen, no graphics library, and whatever else may be wrong with drawing
        made.notes.append(f"frames are not drawn: {error}")
    return make_environment(config, 1, seed)


def _draw_without_screen() -> None:
    """Let MuJoCo draw by EGL where there is no screen: left alone, it takes GLFW, which fails only when it draws.

    Only once it is imported: without EGL, importing it would fail for that choice.
    """
    if sys.platform == "linux" and "mujoco" in sys.modules and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        os.environ.setdefault("MUJOCO_GL", "egl")


# What an environment without frames says: no such option, or no such method.
_NO_FRAMES = (ValueError, TypeError, NotImplementedError, AttributeError, gymnasium.error.UnsupportedMode)


def _frame(env: VectorEnvironment) -> np.ndarray | None:
    frame = (env.render() or (None,))[0]
    drawn = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
    return frame if drawn else None


def _next_frame(env: VectorEnvironment, made: Recording) -> np.ndarray:
    """The frame of this step, or the latest one where it cannot be drawn."""
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
    """Close an environment that may be unable to."""
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
    else:  # the columns are those of Gymnasium's own flattening
        text = _words(spaces.unflatten(env.observation_space, row[: layout.size]))
    made.texts.append(text)


def _picture(image: np.ndarray) -> np.ndarray:
    """(C, H, W) in 0..1 to (H, W, 3) uint8; channels that are no colours stand side by side, in grey."""
    if len(image) != 3:
        image = np.repeat(np.concatenate(image, axis=1)[None], 3, axis=0)
    return np.rint(np.moveaxis(image, 0, -1).clip(0, 1) * 255).astype(np.uint8)


def _words(value: Any) -> str:
    """An observation in a line, or a line for each part with a name."""
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
    """The leaves worth looking at: no counters, and none that is told as a Hadamard memory already."""
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

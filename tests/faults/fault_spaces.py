"""Random spaces of observations and actions, and environments that break their word."""

from __future__ import annotations

import pathlib
import random
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from hadamem.agents import PPOConfig, TrainConfig
from hadamem.agents.making import make_agent, make_environment
from hadamem.agents.training import evaluate_task
from hadamem.envs import EnvironmentFailedError
from hadamem.envs.from_python import id_of


def run(seed: int, folder: pathlib.Path) -> str | None:
    """An environment of random spaces: it trains and is evaluated, or breaks its word and is named."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    observation, action = _space(draw, 2), _action_space(draw, 1)
    breaks = draw.choice([None, None, *_BREACHES])
    env = _environment(draw, observation, action, breaks)
    config = TrainConfig(
        env=id_of(lambda: env(seed)),
        memory=draw.choice(["gru", "shm", "mlp"]),
        memory_size=4,
        inputs=draw.choice([None, ("obs", "action", "reward")]),
        joint_actions=draw.random() < 0.2 and isinstance(action, spaces.MultiBinary | spaces.MultiDiscrete),
        seed=seed,
        ppo=PPOConfig(num_envs=2, num_steps=12, minibatches=1, epochs=1),
    )
    what = f"{observation}, {action}, {breaks}"
    vector = None
    try:
        vector = make_environment(config, 2, seed)
        agent = make_agent(config, vector)
        for _ in range(2):
            agent.iterate()
        evaluate_task(config, agent.policy, seed, 3)
    except (ValueError, EnvironmentFailedError) as error:
        if breaks is None and "supported are" not in str(error) and "holds no numbers" not in str(error):
            return f"{what}: {error}"
        if breaks is not None and not ("environment" in str(error) or "no numbers" in str(error)):
            return f"{what}: the error does not say where: {error}"
    else:
        if breaks is not None and _can_break(observation, breaks):
            return f"{what}: nothing was said"
    finally:
        if vector is not None:
            vector.close()
    return None


def _space(draw: random.Random, depth: int) -> spaces.Space:
    kind = draw.choice(["box", "box", "discrete", "multi", "binary", "picture", *(["dict", "tuple"] if depth else [])])
    match kind:
        case "box":
            shape = draw.choice([(), (1,), (3,), (2, 2), (0,)])
            low, high = draw.choice([(-1.0, 1.0), (-np.inf, np.inf), (0.0, np.inf), (5.0, 5.0)])
            return spaces.Box(low, high, shape, draw.choice([np.float32, np.float64]))
        case "discrete":
            return spaces.Discrete(draw.randint(1, 5), start=draw.choice([0, -2, 3]))
        case "multi":
            return spaces.MultiDiscrete([draw.randint(1, 4) for _ in range(draw.randint(1, 3))])
        case "binary":
            return spaces.MultiBinary(draw.choice([1, 3, [2, 2]]))
        case "picture":
            shape = draw.choice([(4, 4, 3), (3, 5, 5), (6, 6), (2, 4, 4, 3)])
            return spaces.Box(0, draw.choice([255, 10]), shape, np.uint8)
        case "tuple":
            return spaces.Tuple([_space(draw, depth - 1) for _ in range(draw.randint(1, 3))])
    parts = {f"part {i}": _space(draw, depth - 1) for i in range(draw.randint(1, 3))}
    if draw.random() < 0.3:
        parts["words"] = spaces.Text(5)
    return spaces.Dict(parts)


def _action_space(draw: random.Random, depth: int) -> spaces.Space:
    kind = draw.choice(["discrete", "multi", "binary", "box", *(["dict", "tuple"] if depth else [])])
    match kind:
        case "discrete":
            return spaces.Discrete(draw.randint(1, 5), start=draw.choice([0, -2, 3]))
        case "multi":
            return spaces.MultiDiscrete([draw.randint(1, 3) for _ in range(draw.randint(1, 3))])
        case "binary":
            return spaces.MultiBinary(draw.choice([1, 2, [2, 2]]))
        case "box":
            low, high = draw.choice([(-1.0, 1.0), (0.0, np.inf), (-np.inf, np.inf), (2.0, 2.0), (0, 7)])
            dtype = np.int64 if high == 7 else draw.choice([np.float32, np.float64])
            return spaces.Box(low, high, draw.choice([(1,), (2,), (2, 2)]), dtype)
        case "tuple":
            return spaces.Tuple([_action_space(draw, depth - 1) for _ in range(draw.randint(1, 3))])
    return spaces.Dict({f"act {i}": _action_space(draw, depth - 1) for i in range(draw.randint(1, 2))})


_BREACHES = ("nan", "outside", "shape", "missing", "reward nan", "reward text", "raises", "action", "flag")


def _can_break(space: spaces.Space, breach: str) -> bool:
    """Whether a space has a leaf in which this breach can be seen."""
    leaves = [leaf for leaf in _leaves(space) if not isinstance(leaf, spaces.Text)]
    floats = [leaf for leaf in leaves if isinstance(leaf, spaces.Box) and leaf.dtype.kind == "f" and np.prod(leaf.shape)]
    match breach:
        case "nan":
            return bool(floats)
        case "outside":
            return any(isinstance(leaf, spaces.Discrete) for leaf in leaves)
        case "shape":
            return any(np.prod(leaf.shape or ()) > 1 for leaf in leaves)
        case "missing":
            return isinstance(space, spaces.Dict)
    return breach != "action"


def _leaves(space: spaces.Space) -> Iterator[spaces.Space]:
    if isinstance(space, spaces.Dict):
        for child in space.spaces.values():
            yield from _leaves(child)
    elif isinstance(space, spaces.Tuple):
        for child in space.spaces:
            yield from _leaves(child)
    else:
        yield space


def _broken(value: Any, space: spaces.Space, breach: str) -> Any:
    """A copy of an observation, with the breach in its leaves."""
    if isinstance(space, spaces.Dict):
        parts = {key: _broken(value[key], child, breach) for key, child in space.spaces.items()}
        if breach == "missing":
            parts = {key: part for key, part in parts.items() if isinstance(space.spaces[key], spaces.Text)}
        return parts
    if isinstance(space, spaces.Tuple):
        return tuple(_broken(part, child, breach) for part, child in zip(value, space.spaces, strict=True))
    if breach == "nan" and isinstance(space, spaces.Box) and space.dtype.kind == "f":
        return np.full(space.shape, np.nan, space.dtype)
    if breach == "outside" and isinstance(space, spaces.Discrete):
        return space.start + space.n + 3
    if breach == "shape" and np.prod(space.shape or ()) > 1:
        return np.zeros((7, 5), space.dtype)
    return value


def _environment(draw: random.Random, observation: spaces.Space, action: spaces.Space, breach: str | None) -> Any:
    masked = isinstance(action, spaces.Discrete | spaces.MultiDiscrete) and breach is None and draw.random() < 0.4
    length, when, noise = draw.randint(2, 9), draw.randint(1, 2), draw.choice([None, {"grown": []}, {"x": "text"}])

    class Made(gymnasium.Env):
        observation_space, action_space = observation, action

        def __init__(self, seed: int) -> None:
            self.observation_space.seed(seed)
            self.steps = 0

        def info(self) -> dict[str, Any]:
            info = dict(noise or {}, step=self.steps)
            if masked:
                counts = [int(action.n)] if isinstance(action, spaces.Discrete) else action.nvec.tolist()
                self.mask = [np.arange(n) % 2 == 0 for n in counts]
                info["action_mask"] = np.concatenate(self.mask).astype(np.int8)
            return info

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            self.steps = 0
            return self.observation_space.sample(), self.info()

        def step(self, act: Any) -> Any:
            if masked:
                start = action.start if isinstance(action, spaces.Discrete) else 0
                for chosen, mask in zip(np.atleast_1d(act) - start, self.mask, strict=True):
                    assert mask[chosen], "an illegal action"
            elif breach is None:
                assert _contains(action, act), f"{act!r} is not in {action}"
            self.steps += 1
            now = self.steps == when
            seen, reward = self.observation_space.sample(), float(self.steps)
            if now and breach in ("nan", "outside", "shape", "missing"):
                seen = _broken(seen, observation, breach)
            if now and breach == "reward nan":
                reward = float("nan")
            if now and breach == "reward text":
                reward = "much"
            if now and breach == "raises":
                raise ValueError("environment out of order")
            if now and breach == "action" and isinstance(act, np.ndarray):
                act.fill(0)  # works on its action in place
            over: Any = self.steps >= length and not now  # what is seen after the end is not looked at
            over = "perhaps" if now and breach == "flag" else over
            return seen, reward, over, False, self.info()

    return Made


def _contains(space: spaces.Space, value: Any) -> bool:
    """Gymnasium's own test, but for the type of floats."""
    if isinstance(space, spaces.Dict):
        return all(_contains(child, value[key]) for key, child in space.spaces.items())
    if isinstance(space, spaces.Tuple):
        return all(_contains(child, part) for child, part in zip(space.spaces, value, strict=True))
    if isinstance(space, spaces.Box):
        value = np.asarray(value)
        return value.shape == space.shape and bool((value >= space.low).all() and (value <= space.high).all())
    return space.contains(value)

"""Wind and Point Robot: meta-reinforcement learning, in which a point on the plane has to find out its hidden task.

Task sets and splits are those of Ni et al. (2022, arXiv 2110.05038; variant "original") and of the code of the SHM paper
(variant "shm").
"""

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from .batched import FixedLength, require_positive, settings
from .drawing import BLUE, GREEN, ORANGE, RED, Plane

Variant = Literal["shm", "original"]
Split = Literal["train", "eval", "all"]


class PointTask(FixedLength):
    """A point is moved towards a goal; a hidden task, drawn from a list, determines the place of the goal or a constant drift.

    Actions (2,) in [-1, 1] are scaled by `step_size`. Each step that ends within `radius` of the goal pays 1. An episode is
    `trials` inner episodes of `horizon` steps with the same task, and is then truncated, since the point could stay at the goal
    for ever. Infos hold `task` (its index in `tasks`) and `at_goal` at every step; at the last step also `success` (the goal
    was reached at least once) and, if there are several inner episodes, `inner_returns`. `reset(options={"task": i})` begins
    task i, or task i[n] in environment n if i is an array of N; other episodes draw their tasks uniformly.

    Attributes:
        tasks: (K, 2) float64, the tasks of the split.
    """

    truncates = True
    mutable = ("clock", "task", "position", "returns")

    def __init__(
        self,
        num_envs: int,
        tasks: np.ndarray,
        rules: Any,
        trials: int,
        step_size: float,
        observation_size: int,
        render_mode: str | None,
    ) -> None:
        require_positive(trials=trials, horizon=rules.horizon, radius=rules.radius, step_size=step_size)
        space = spaces.Box(-np.inf, np.inf, (observation_size,), np.float32)
        super().__init__(num_envs, trials * rules.horizon, space, spaces.Box(-1, 1, (2,), np.float32), render_mode)
        self.tasks = tasks
        self.horizon, self.radius, self.step_size = rules.horizon, rules.radius, step_size
        self.task = np.zeros(num_envs, np.int64)
        self.position = np.zeros((num_envs, 2))
        self.returns = np.zeros((num_envs, trials))  # of each inner episode
        self.at_goal = np.zeros(num_envs, np.bool_)  # the latest step ended there
        self._asked: Any = None

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode everywhere, with the tasks in `options["task"]` if they are given."""
        self._asked = (options or {}).get("task")
        return super().reset(seed=seed, options=options)

    def _draw(self) -> None:
        self.task[:] = [generator.integers(len(self.tasks)) for generator in self._generators]
        if self._asked is not None:  # after the draw, so that later random numbers do not depend on this option
            asked = np.broadcast_to(self._asked, self.num_envs)
            if (asked < 0).any() or (asked >= len(self.tasks)).any():
                raise ValueError(f"task is {self._asked}; there are the tasks 0 to {len(self.tasks) - 1}")
            self.task[:], self._asked = asked, None
        self.returns[:] = 0
        self._place()
        self.at_goal[:] = False

    def _move(self, actions: np.ndarray) -> np.ndarray:
        trial, step = divmod(self.clock, self.horizon)
        goal, drift = self._goal_and_drift()
        self.position = self.position + self.step_size * np.clip(actions.astype(np.float64), -1, 1) + drift
        self.at_goal[:] = np.linalg.norm(self.position - goal, axis=1) <= self.radius
        reward = self.at_goal.astype(np.float64)
        self.returns[:, trial] += reward
        if step + 1 == self.horizon and trial + 1 < self.returns.shape[1]:
            self._place()
        return reward

    def _info(self) -> dict[str, np.ndarray]:
        return {"task": self.task.copy(), "at_goal": self.at_goal.copy()}

    def _final_info(self) -> dict[str, np.ndarray]:
        info = {"success": self.returns.max(axis=1) > 0}
        return info if self.returns.shape[1] == 1 else info | {"inner_returns": self.returns.copy()}

    @abstractmethod
    def _place(self) -> None:
        """Put the points at their positions at the beginning of an inner episode."""

    @abstractmethod
    def _goal_and_drift(self) -> tuple[np.ndarray, np.ndarray]:
        """The positions of the goals, and the drift added to the points' positions at each step; both (N, 2) or (2,)."""

    def _picture(self, i: int) -> np.ndarray:
        plane = Plane(reach=2.0)
        goal, drift = (np.broadcast_to(value, self.position.shape)[i] for value in self._goal_and_drift())
        plane.disc(goal, max(self.radius, 0.03), GREEN)
        plane.line(self.position[i], self.position[i] + 10 * drift, BLUE)
        plane.disc(self.position[i], 0.06, RED if self.at_goal[i] else ORANGE)
        return plane.pixels


class Wind(PointTask):
    """Reach a known place in an unknown, constant wind. Observation: the position, (2,); it starts at the origin.

    Args:
        num_envs: N.
        variant: paper whose numbers are the defaults of the next five arguments.
        num_tasks: number of winds.
        num_train: number of winds for training; the others are for evaluation.
        max_wind: winds are uniform in [-max_wind, max_wind]^2, in units of length per step.
        radius: radius of the goal.
        horizon: steps of an episode.
        split: the winds to draw from: "train", "eval" or "all".
        goal: position of the goal.
        step_size: how far an action of 1 moves the point.
        task_seed: seed of the winds and the split.
        render_mode: None or "rgb_array".
    """

    obs_requires_prev_action = True
    variants = {  # noqa: RUF012
        "shm": {"num_tasks": 200, "num_train": 50, "max_wind": 0.1, "radius": 0.01, "horizon": 100},
        "original": {"num_tasks": 60, "num_train": 40, "max_wind": 0.08, "radius": 0.03, "horizon": 75},
    }

    def __init__(
        self,
        num_envs: int,
        variant: Variant = "shm",
        num_tasks: int | None = None,
        num_train: int | None = None,
        max_wind: float | None = None,
        radius: float | None = None,
        horizon: int | None = None,
        split: Split = "train",
        goal: tuple[float, float] = (0.0, 1.0),
        step_size: float = 0.1,
        task_seed: int = 1337,
        render_mode: str | None = None,
    ) -> None:
        rules = settings(
            self.variants,
            variant,
            num_tasks=num_tasks,
            num_train=num_train,
            max_wind=max_wind,
            radius=radius,
            horizon=horizon,
        )
        generator = np.random.RandomState(task_seed)
        winds = generator.uniform(-rules.max_wind, rules.max_wind, (rules.num_tasks, 2))
        winds = _of_split(winds, generator, rules.num_train, split)
        super().__init__(num_envs, winds, rules, 1, step_size, 2, render_mode)
        self.goal = np.array(goal)

    def _place(self) -> None:
        self.position = np.zeros((self.num_envs, 2))

    def _goal_and_drift(self) -> tuple[np.ndarray, np.ndarray]:
        return self.goal, self.tasks[self.task]

    def _observe(self) -> np.ndarray:
        return self.position.astype(np.float32)


class PointRobot(PointTask):
    """Find a goal somewhere on the upper unit half circle, and return to it from elsewhere in a second inner episode.

    Observation (3,): the position, and a flag that is 1 in the first observation after an inner episode has ended. That
    observation has the position at which the next inner episode begins. (The released code shows the position at which the
    last one ended, and never the new one: the first action of an inner episode is blind there.)

    Args:
        num_envs: N.
        variant: paper whose numbers are the defaults of the next four arguments.
        num_tasks: number of goals.
        num_train: number of goals for training; the others are for evaluation.
        radius: radius of the goal.
        horizon: steps of an inner episode.
        trials: inner episodes in an episode.
        split: the goals to draw from: "train", "eval" or "all".
        step_size: how far an action of 1 moves the point.
        task_seed: seed of the goals and the split.
        render_mode: None or "rgb_array".
    """

    obs_requires_prev_reward = True
    variants = {  # noqa: RUF012
        "shm": {"num_tasks": 200, "num_train": 50, "radius": 0.05, "horizon": 100},
        "original": {"num_tasks": 100, "num_train": 80, "radius": 0.2, "horizon": 60},
    }

    def __init__(
        self,
        num_envs: int,
        variant: Variant = "shm",
        num_tasks: int | None = None,
        num_train: int | None = None,
        radius: float | None = None,
        horizon: int | None = None,
        trials: int = 2,
        split: Split = "train",
        step_size: float = 0.1,
        task_seed: int = 1337,
        render_mode: str | None = None,
    ) -> None:
        rules = settings(self.variants, variant, num_tasks=num_tasks, num_train=num_train, radius=radius, horizon=horizon)
        generator = np.random.RandomState(task_seed)
        generator.uniform(size=2 * rules.num_tasks + 2)  # drawn by the original for goals and a start that it never uses
        angles = generator.uniform(0, np.pi, rules.num_tasks)
        generator.shuffle(angles)
        generator.uniform(size=2)  # another start that the original never uses
        angles = _of_split(angles, generator, rules.num_train, split)
        goals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        super().__init__(num_envs, goals, rules, trials, step_size, 3, render_mode)

    def _place(self) -> None:
        self.position = np.stack([generator.uniform((-1.5, -0.5), 1.5) for generator in self._generators])

    def _goal_and_drift(self) -> tuple[np.ndarray, np.ndarray]:
        return self.tasks[self.task], np.zeros(2)

    def _observe(self) -> np.ndarray:
        flag = float(self.clock > 0 and self.clock % self.horizon == 0)
        return np.column_stack([self.position, np.full(self.num_envs, flag)]).astype(np.float32)


def _of_split(tasks: np.ndarray, generator: np.random.RandomState, num_train: int, split: Split) -> np.ndarray:
    """The tasks of a split: the tasks are permuted by `generator`, and the first `num_train` of them are for training."""
    order = generator.permutation(len(tasks))
    parts = {"train": order[:num_train], "eval": order[num_train:], "all": np.arange(len(tasks))}
    if split not in parts:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(parts)}")
    if not 0 <= num_train <= len(tasks) or not len(parts[split]):
        raise ValueError(f"num_train is {num_train} of num_tasks {len(tasks)}: no tasks are left for split {split!r}")
    return tasks[parts[split]]

"""The tasks of hadamem by id, registered with Gymnasium when `hadamem.envs` is imported."""

from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import gymnasium

from .batched import BatchedTask, SingleTask
from .catch import DelayedCatch
from .endless_tmaze import EndlessTMaze
from .grid import KeyToDoor, VisualMatch
from .poc_memory import PocMemory
from .point import PointRobot, Wind
from .tmaze import TMaze
from .wrappers import VELOCITIES, MaskVelocity

WORLDS: dict[str, Callable[..., BatchedTask]] = {
    "hadamem/Wind-v0": Wind,
    "hadamem/PointRobot-v0": PointRobot,
    "hadamem/KeyToDoor-v0": KeyToDoor,
    "hadamem/VisualMatch-v0": VisualMatch,
    "hadamem/TMazePassive-v0": TMaze,
    "hadamem/TMazeActive-v0": partial(TMaze, corridor_length=20, oracle_length=1),
    "hadamem/EndlessTMaze-v0": EndlessTMaze,
    "hadamem/DelayedCatch-v0": DelayedCatch,
    "hadamem/PocMemory-v0": PocMemory,
}

#: Gymnasium's tasks whose velocities "hadamem/NAMENoVel-v0" leaves out.
WITHOUT_VELOCITY = ("CartPole-v1", "Pendulum-v1", "MountainCarContinuous-v0", "LunarLander-v3", "Acrobot-v1")


@cache
def _added() -> dict[str, EntryPoint]:
    """Batched tasks of installed packages, by id, from the entry points in the group "hadamem.tasks"."""
    return {point.name: point for point in entry_points(group="hadamem.tasks") if point.name not in WORLDS}


def world_ids() -> list[str]:
    """The ids of all batched tasks that have options: those of hadamem, then those of installed packages."""
    return [*WORLDS, *_added()]


def world(id: str) -> Callable[..., BatchedTask] | None:
    """The function or class that makes N environments of the batched task with this id; None if it is not in `world_ids`."""
    return _added()[id].load() if id in _added() else WORLDS.get(id)


class World(SingleTask):
    """One environment of the task registered as `id`."""

    def __init__(self, id: str, **options: Any) -> None:
        super().__init__(_known(id), **options)


def batched_world(id: str, num_envs: int, **options: Any) -> BatchedTask:
    """N environments of the task registered as `id`, for `gymnasium.make_vec`."""
    return _known(id)(num_envs, **options)


def _known(id: str) -> Callable[..., BatchedTask]:
    made = world(id)
    assert made is not None
    return made


for _id in world_ids():
    gymnasium.register(
        _id, "hadamem.envs.worlds:World", vector_entry_point="hadamem.envs.worlds:batched_world", kwargs={"id": _id}
    )

for _id in WITHOUT_VELOCITY:
    _spec = gymnasium.spec(_id)
    gymnasium.register(
        f"hadamem/{_spec.name}NoVel-v0",
        _spec.entry_point,  # a name, so that modules such as Box2D are only imported when an environment is made
        reward_threshold=_spec.reward_threshold,
        max_episode_steps=_spec.max_episode_steps,
        kwargs=_spec.kwargs,
        additional_wrappers=(MaskVelocity.wrapper_spec(indices=VELOCITIES[_spec.name]),),
    )

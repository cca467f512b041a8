"""Recording of episodes of a trained policy as a Minari data set, a format for offline reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import gymnasium
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector.utils import concatenate, create_empty_array

from ..agents.making import make_single
from ..checks import check_installed
from .acting import Acting
from .trained import Trained


def record_episodes(
    trained: Trained,
    id: str,
    episodes: int,
    seed: int = 0,
    greedy: bool = True,
    max_steps: int = 100_000,
    on_progress: Callable[[int, int], None] | None = None,
) -> Any:
    """Play a policy, and write its observations, actions and rewards.

    Args:
        trained: the policy, with the configuration of its environment.
        id: id of the data set, such as "mine/cartpole-v0"; it is stored in Minari's folder (MINARI_DATASETS_PATH).
        episodes: number of episodes.
        seed: seed of the first episode; each further episode has the next number.
        greedy: take the most likely action instead of a random one.
        max_steps: number of steps after which an episode is truncated.
        on_progress: called with the number of episodes so far, and the number of steps of the last one.

    Returns:
        The data set, a MinariDataset.

    Raises:
        ModuleNotFoundError: Minari is not installed.
        ValueError: there is a data set of that id already, or the id is not valid.
    """
    check_installed("minari", "minari")
    import minari
    from minari.dataset.minari_dataset import parse_dataset_id

    parse_dataset_id(id)
    if id in minari.list_local_datasets():
        raise ValueError(f"there is a data set {id} already; give another name, or `minari delete {id}`")
    torch.manual_seed(seed)
    env, player = make_single(trained.config), Acting(trained.policy, trained.interface)
    beside = trained.interface.mask == "beside"

    def choose(observation: Any, reward: float, info: dict[str, Any]) -> Any:
        return player.act(observation, reward, info.get("action_mask") if beside else None, greedy=greedy)

    played = []
    try:
        for number in range(episodes):
            player.reset()
            played.append(play_episode(env, choose, seed + number, max_steps))
            if on_progress is not None:
                on_progress(number + 1, len(played[-1]))
        by = f"hadamem {trained.config.agent}, {trained.config.memory}"
        return minari.create_dataset_from_buffers(
            id, played, _spec_of(env), observation_space=env.observation_space, action_space=env.action_space,
            algorithm_name=by, num_episodes_average_score=episodes,
        )  # fmt: skip
    finally:
        env.close()


def _spec_of(env: gymnasium.Env[Any, Any]) -> EnvSpec | None:
    """The spec from which Minari can make the environment again; None if it cannot be written as JSON, as for some classes."""
    try:
        if env.spec is not None:
            env.spec.to_json()
    except ValueError:
        return None
    return env.spec


def play_episode(
    env: gymnasium.Env[Any, Any], choose: Callable[[Any, float, dict[str, Any]], Any], seed: int, max_steps: int = 100_000
) -> Any:
    """Play one episode, and return it in the form that `minari.create_dataset_from_buffers` takes.

    Args:
        env: the environment.
        choose: returns the action for an observation, the reward of the previous step (0 at first), and the info.
        seed: seed of the episode.
        max_steps: number of steps after which the episode is truncated.

    Returns:
        An EpisodeBuffer.
    """
    from minari.data_collector.episode_buffer import EpisodeBuffer

    observation, info = env.reset(seed=seed)
    observations, actions, rewards, ends, cuts = [deepcopy(observation)], list[Any](), [0.0], list[bool](), list[bool]()
    while len(actions) < max_steps and not any((*ends[-1:], *cuts[-1:])):
        actions.append(choose(observation, rewards[-1], info))
        observation, reward, terminated, truncated, info = env.step(deepcopy(actions[-1]))
        observations.append(deepcopy(observation))
        rewards.append(float(reward))
        ends.append(bool(terminated))
        cuts.append(bool(truncated))
    if not ends[-1]:
        cuts[-1] = True
    seen, taken = _batch(env.observation_space, observations), _batch(env.action_space, actions)
    return EpisodeBuffer(None, seed, None, seen, taken, rewards[1:], ends, cuts)


def _batch(space: gymnasium.Space[Any], items: list[Any]) -> Any:
    empty: Any = create_empty_array(space, len(items))
    return concatenate(space, items, empty)

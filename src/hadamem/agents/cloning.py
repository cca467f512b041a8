"""Behaviour cloning (Pomerleau, 1991) with a memory: a policy learns to do what recorded episodes show.

Episodes are laid end to end in lanes, as if an environment played them again in each lane. The memory's state is carried from
one piece of a lane to the next, as PPO carries it from rollout to rollout. The policy is PPO's, and its critic learns the
discounted returns of the episodes, so that PPO can continue the training.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import distributed
from ..checks import check_installed
from ..envs.interface import Interface, rows_of
from ..networks import ActorCritic
from .learning import adam, fast_products, gradient_step, mean_terms, set_learning_rate
from .not_finite import not_finite
from .ppo import PPOConfig


@dataclass(frozen=True)
class Recorded:
    """S steps of recorded episodes, one after the other.

    Attributes:
        obs: (S, D) float32, the observations as rows of the policy's inputs.
        action: (S, K), the actions in the form in which the agent gives them.
        value: (S,), the discounted sum of the rewards from each step on.
        begin: the first step of each episode, followed by S.
        mean_return: mean return of the episodes.
    """

    obs: Tensor
    action: Tensor
    value: Tensor
    begin: np.ndarray
    mean_return: float


def open_data(data: str) -> Any:
    """Open a Minari data set, given by its id or its folder.

    Raises:
        ModuleNotFoundError: Minari is not installed.
        ValueError: there is no such data set.
    """
    check_installed("minari", "minari")
    import minari
    from minari.dataset.minari_dataset import MinariDataset

    folder = pathlib.Path(data)
    try:
        if (folder / "data").is_dir():
            return MinariDataset(folder / "data")
        return minari.load_dataset(data)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{data} is no Minari data set here ({error}); `minari list local` shows all") from error


def read_episodes(episodes: Iterable[Any], interface: Interface, gamma: float, name: str) -> Recorded:
    """Convert Minari's episodes to the observations and actions of a policy.

    Args:
        episodes: episodes with observations (T + 1, ...), actions (T, ...) and rewards (T,), nested as the spaces are.
        interface: interface of the policy.
        gamma: discount of the returns, per step.
        name: name of the data set, for error messages.

    Raises:
        ValueError: there are no episodes, or an episode does not fit the policy's spaces.
    """
    obs, action, value, lengths, returns = list[Tensor](), list[Tensor](), list[Tensor](), [0], list[float]()
    for number, episode in enumerate(episodes):
        rewards = np.asarray(episode.rewards, np.float64)
        T = len(rewards)
        try:
            rows = np.zeros((T, interface.layout.size), np.float32)
            observations = rows_of(episode.observations, 0, T)  # no action follows the last observation
            interface.write(observations, rows, single=False)
            interface.write_mask(observations, None, rows, single=False)
            taken = interface.actions.from_environment(episode.actions).reshape(T, -1)
            before = np.zeros_like(rows)
            interface.write_previous(episode.actions, rewards, before)
            rows[1:, interface.history] = before[:-1, interface.history]
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"episode {number} of {name} does not fit the policy's spaces: {error}") from error
        obs.append(torch.from_numpy(rows))
        action.append(torch.from_numpy(np.ascontiguousarray(taken)))
        value.append(torch.from_numpy(_discounted(rewards, gamma)).float())
        lengths.append(T)
        returns.append(float(rewards.sum()))
    if not returns:
        raise ValueError(f"{name} has no episodes")
    return Recorded(torch.cat(obs), torch.cat(action), torch.cat(value), np.cumsum(lengths), float(np.mean(returns)))


def _discounted(rewards: np.ndarray, gamma: float) -> np.ndarray:
    sums, running = np.empty_like(rewards), 0.0
    for t in range(len(rewards) - 1, -1, -1):
        running = rewards[t] + gamma * running
        sums[t] = running
    return sums


class Cloning:
    """A policy and the recorded episodes that it imitates. `iterate` learns once from the next piece of every lane.

        L = -log pi(a) + w_v ((V - R) / s)^2

    R: discounted returns; s: their standard deviation.

    Args:
        policy: the policy, on its device.
        interface: interface between the policy's rows and the spaces of the data.
        config: its num_envs is the number of lanes, and num_steps the length of a piece.
        total_steps: steps of the whole run, for the learning-rate schedule.
        data: id or folder of the data set, see `open_data`.
    """

    own: tuple[str, ...] = ("state", "lanes")
    must_save = False

    def __init__(self, policy: ActorCritic, interface: Interface, config: PPOConfig, total_steps: int, data: str) -> None:
        self.policy, self.config, self.total_steps, self.step = policy, config, total_steps, 0
        self.device = next(policy.parameters()).device
        self.recorded = read_episodes(open_data(data).iterate_episodes(), interface, config.gamma, data)
        lanes = distributed.share(config.num_envs, "num_envs")
        self.state = policy.initial_state(lanes)
        self.episode = np.zeros(lanes, np.int64)  # the episode that each lane plays
        self.at = self.recorded.begin[1:][self.episode]  # next step of each lane: at first the end, so that episodes are drawn
        self.optimiser = adam(policy, config.learning_rate, config.memory_rate, config.adam_epsilon)

    def iterate(self, on_step: Callable[[int], None] | None = None) -> dict[str, float]:
        """Learn from the next piece of every lane; see `Agent`."""
        config, policy = self.config, self.policy
        if policy.normaliser.unknown:
            policy.normaliser.update(self.recorded.obs.to(self.device))
        if config.schedule == "linear":
            set_learning_rate(self.optimiser, config.learning_rate * max(0.0, 1 - self.step / self.total_steps))
        index, start = self._next()
        obs, action, value = (
            leaf[index].to(self.device) for leaf in (self.recorded.obs, self.recorded.action, self.recorded.value)
        )
        policy.value.update(value)
        all_terms, before = list[dict[str, Tensor]](), self.state
        for rows in torch.randperm(len(index), device=self.device).chunk(config.minibatches):
            batch = obs[rows], {name: leaf[rows] for name, leaf in before.items()}, start[rows], action[rows], value[rows]
            again = partial(self._loss, *batch)
            with fast_products():
                loss, terms = again()
                if not loss.isfinite():
                    data = {"observations": batch[0], "returns": batch[-1]}
                    raise not_finite(self.step, terms, {"policy": policy}, data, again)
                gradient_step(loss, self.optimiser, policy, config.max_grad_norm)
            all_terms.append(terms)
        with torch.no_grad():
            _, _, self.state = policy(obs, before, start)
        self.step += config.num_envs * config.num_steps
        if on_step is not None:
            on_step(self.step)
        return {"return": float("nan"), "demonstrated_return": self.recorded.mean_return} | mean_terms(all_terms)

    def _loss(
        self, obs: Tensor, state: dict[str, Tensor], start: Tensor, action: Tensor, value: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        head = self.policy.head
        parameters, estimate, _ = self.policy(obs, state, start)
        imitation = -head.log_prob(parameters, action).mean()
        value_loss = ((estimate - value) / self.policy.value.deviation).square().mean()
        terms = {"imitation_loss": imitation, "value_loss": value_loss}
        if not head.continuous:
            terms["accuracy"] = (head.mode(parameters) == action).all(-1).float().mean()
        loss = imitation + self.config.value_coefficient * value_loss
        return loss, {name: term.detach() for name, term in terms.items()}

    def _next(self) -> tuple[Tensor, Tensor]:
        """Indices (B, T) of the next steps of every lane, and which of them are the first of an episode."""
        B, T = len(self.at), self.config.num_steps
        index, begin = np.empty((B, T), np.int64), self.recorded.begin
        for t in range(T):
            over = self.at == begin[self.episode + 1]
            if over.any():
                drawn = torch.randint(len(begin) - 1, (int(over.sum()),)).numpy()
                self.episode[over], self.at[over] = drawn, begin[drawn]
            index[:, t] = self.at
            self.at += 1
        return torch.from_numpy(index), torch.from_numpy(np.isin(index, begin)).to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """See `Agent`."""
        return {
            "step": self.step,
            "policy": self.policy.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "state": self.state,
            "lanes": torch.from_numpy(np.stack([self.episode, self.at])),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """See `Agent`."""
        self.step = saved["step"]
        self.policy.load_state_dict(saved["policy"])
        self.optimiser.load_state_dict(saved["optimiser"])
        if "state" in saved:
            self.state = saved["state"]
            self.episode, self.at = saved["lanes"].cpu().numpy().copy()

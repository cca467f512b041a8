"""Acting with a policy outside of training, step by step, with observations and actions in the environment's own spaces."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from ..envs.interface import Interface, first_of
from ..memory import State
from ..networks import Policy
from .fast import FastPolicy


class ActingState(NamedTuple):
    """The state of a policy between two steps, of N rows. It is never changed in place, so it can be kept and used again.

    Attributes:
        memory: the state of the network.
        history: (N, H) float32, the input columns of the previous action and reward; `rows_of` fills in the reward.
        single: whether observations come one by one, and not in a batch.
    """

    memory: State
    history: np.ndarray
    single: bool


class Acting:
    """A policy with its state in an episode, or in N parallel episodes.

    Args:
        policy: the policy that acts. Its weights and statistics are not changed.
        interface: interface between the policy's rows and the environment's spaces.
    """

    def __init__(self, policy: Policy, interface: Interface) -> None:
        self.policy, self.interface, self._fast = policy, interface, FastPolicy(policy)
        self.device = next(policy.parameters()).device
        self.state: ActingState | None = None
        self._width, self._on_cpu = interface.layout.size, self.device.type == "cpu"
        self._begins: np.ndarray = np.ones(1, np.bool_)  # (N,), whether the next observation is the first of an episode
        self._goes_on: np.ndarray = np.zeros(1, np.bool_)

    def clone(self) -> Acting:
        """A copy with the same weights, whose episode has not begun yet. It may act in another thread."""
        other = Acting(self.policy, self.interface)
        other._fast = self._fast
        return other

    def reset(self, batch: int | None = None) -> None:
        """Let episodes begin with the next observation, in one environment, or in each of `batch` parallel environments.

        Raises:
            ValueError: batch is less than 1.
        """
        if batch is not None and batch < 1:
            raise ValueError(f"batch is {batch}; it must be at least 1, or None for single observations")
        if self.state is None or (len(self.state.history), self.state.single) != (batch or 1, batch is None):
            self.state = self.begin(batch)
        self._begins, self._goes_on = np.ones(batch or 1, np.bool_), np.zeros(batch or 1, np.bool_)

    def begin(self, batch: int | None = None) -> ActingState:
        """The state before the first observation, of one environment or of `batch` parallel environments."""
        N = batch or 1
        history = np.zeros((N, self._width - self.interface.history.start), np.float32)
        return ActingState(self.policy.initial_state(N), history, batch is None)

    def act(self, observation: Any, reward: Any = None, mask: Any = None, start: Any = None, greedy: bool = True) -> Any:
        """The action for an observation, from the state kept here; see `hadamem.Agent.act`."""
        if self.state is None:
            self.reset()
        assert self.state is not None
        begins = self._begins
        if start is not None:
            begins = begins | self._starts(start, len(begins))
        action, self.state = self.step(observation, self.state, begins, reward, mask, greedy)
        self._begins = self._goes_on
        return action

    def step(
        self, observation: Any, state: ActingState, begins: np.ndarray, reward: Any, mask: Any, greedy: bool
    ) -> tuple[Any, ActingState]:
        """One step; `begins` (N,) bool says which observations are the first of an episode. Otherwise see `hadamem.Agent.act`.

        Returns:
            The action, and the state for the next step.
        """
        rows = self.rows_of(observation, state, begins, reward, mask)
        actions, after = self.play(rows, state, begins, greedy)
        return first_of(actions) if state.single else actions, after

    def rows_of(
        self, observation: Any, state: ActingState, begins: np.ndarray, reward: Any = None, mask: Any = None
    ) -> np.ndarray:
        """The input rows of the policy, (N, D) float32; see `step`."""
        interface = self.interface
        rows = np.empty((len(state.history), self._width), np.float32)
        interface.write(observation, rows, state.single)
        interface.write_mask(observation, mask, rows, state.single)
        if interface.history.start < self._width:
            rows[:, interface.history] = state.history
            if interface.reward:
                rows[:, -1] = self._rewards(reward, begins)
            rows[begins, interface.history] = 0
        return rows

    def play(self, rows: np.ndarray, state: ActingState, begins: np.ndarray, greedy: bool) -> tuple[Any, ActingState]:
        """One step from the policy's input rows (N, D), which are overwritten.

        Returns:
            N actions in the environment's form, and the state for the next step.
        """
        interface = self.interface
        with torch.inference_mode():
            seen, starts = torch.from_numpy(rows), torch.from_numpy(begins)
            if not self._on_cpu:
                seen, starts = seen.to(self.device), starts.to(self.device)
            chosen, memory = self._fast.act(seen, state.memory, starts, greedy)
        actions = interface.actions.to_environment(chosen.numpy() if self._on_cpu else chosen.cpu().numpy())
        history = state.history
        if interface.history.start < self._width:
            interface.write_previous(actions, 0, rows)
            history = rows[:, interface.history]
        return actions, ActingState(memory, history, state.single)

    def _starts(self, start: Any, N: int) -> np.ndarray:
        starts = np.atleast_1d(np.asarray(start))
        if starts.shape != (N,) or starts.dtype != np.bool_:
            raise ValueError(f"start has shape {starts.shape} and type {starts.dtype}; it must be ({N},) bool")
        return starts

    @staticmethod
    def _rewards(reward: Any, begins: np.ndarray) -> np.ndarray:
        N = len(begins)
        if reward is None:
            if begins.all():
                return np.zeros(N, np.float32)
            raise ValueError("the reward of the previous step is an input of the policy; give it as reward=")
        rewards = np.atleast_1d(np.asarray(reward, np.float32))
        if rewards.shape != (N,) or not np.isfinite(rewards[~begins]).all():
            raise ValueError(f"reward is {reward}; it must be {'one finite number' if N == 1 else f'{N} finite numbers'}")
        return rewards

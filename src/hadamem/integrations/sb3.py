"""sb3-contrib's RecurrentPPO with any memory of hadamem instead of its LSTM.

    from sb3_contrib import RecurrentPPO
    from hadamem.integrations.sb3 import MemoryPolicy

    model = RecurrentPPO(MemoryPolicy, "CartPole-v1", policy_kwargs={"memory": "shm", "memory_size": 16})
    model.learn(100_000)

It needs an unmodified sb3-contrib (hadamem[peers]). Sequences with resets inside are computed in one pass, without
sb3-contrib's loop over their steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from sb3_contrib.common.recurrent.policies import (
    RecurrentActorCriticCnnPolicy,
    RecurrentActorCriticPolicy,
    RecurrentMultiInputActorCriticPolicy,
)
from torch import Tensor, nn

from ..memory import Memory, State, make_memory

LSTMStates = tuple[Tensor, Tensor]


class MemoryAsLSTM(nn.Module):
    """A memory with the interface of an nn.LSTM that sb3-contrib uses: its sizes, and two state tensors (1, N, hidden_size).

    These two tensors together hold a 1, and then the leaves of the memory's state side by side, with their bytes reinterpreted
    as float32. The leading 1 distinguishes a state from the zeros with which sb3-contrib starts; zeros mean that an episode
    begins.
    """

    num_layers = 1

    def __init__(self, memory: Memory, input_size: int) -> None:
        super().__init__()
        self.memory, self.input_size = memory, input_size
        state = memory.initial_state(1)
        if not state:
            raise ValueError("a memory without a state needs no RecurrentPPO; use the PPO of stable-baselines3")
        self.hidden_size = math.ceil((1 + sum(_as_floats(leaf).shape[1] for leaf in state.values())) / 2)

    def forward(self, x: Tensor, states: LSTMStates, start: Tensor) -> tuple[Tensor, LSTMStates]:
        """x (N, T, input_size) and start (N, T) bool to y (N, T, output size) and the states after them."""
        flat = torch.cat([part[0] for part in states], dim=1)
        start = start.clone()
        start[:, 0] |= flat[:, 0] == 0
        y, after = self.memory(x, self._unpacked(flat), start)
        return y, self._packed(after)

    def _packed(self, state: State) -> LSTMStates:
        leaves = [_as_floats(leaf) for leaf in state.values()]
        flat = torch.cat([leaves[0].new_ones(len(leaves[0]), 1), *leaves], dim=1)
        flat = nn.functional.pad(flat, (0, 2 * self.hidden_size - flat.shape[1]))
        first, second = flat.split(self.hidden_size, dim=1)
        return first[None].contiguous(), second[None].contiguous()

    def _unpacked(self, flat: Tensor) -> State:
        state, at = State(), 1
        for name, like in self.memory.initial_state(len(flat)).items():
            width = _as_floats(like).shape[1]
            part = flat[:, at : at + width].clone()  # a copy: a view of another dtype needs its own storage
            state[name] = (part if like.dtype == torch.float32 else part.detach().view(like.dtype)).reshape(like.shape)
            at += width
        return state


def _as_floats(leaf: Tensor) -> Tensor:
    """(N, ...) of any dtype to (N, C) float32; the bytes of other dtypes are reinterpreted as float32."""
    flat = leaf.reshape(len(leaf), -1)
    return flat if flat.dtype == torch.float32 else flat.contiguous().view(torch.float32)


class _WithMemory:
    """Base class of the policies below. They take the arguments of sb3-contrib's policies, and the following.

    Args:
        memory: name of the memory (see `hadamem list memories`).
        memory_size: size of the memory, in its own unit; None: the memory's default.
        memory_options: further options of the memory.
        lstm_hidden_size: number of features of the memory's output.
    """

    def __init__(
        self,
        *args: Any,
        memory: str = "shm",
        memory_size: int | None = None,
        memory_options: Mapping[str, Any] | None = None,
        lstm_hidden_size: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, lstm_hidden_size=lstm_hidden_size, **kwargs)  # type: ignore[call-arg]  # of the policy
        policy: Any = self
        lr_schedule = kwargs["lr_schedule"] if "lr_schedule" in kwargs else args[2]

        def made() -> MemoryAsLSTM:
            found = make_memory(memory, policy.features_dim, lstm_hidden_size, memory_size, **(memory_options or {}))
            return MemoryAsLSTM(found, policy.features_dim)

        policy.lstm_actor = made()
        if policy.lstm_critic is not None:
            policy.lstm_critic = made()
        policy.lstm_hidden_state_shape = (1, 1, policy.lstm_actor.hidden_size)
        policy.optimizer = policy.optimizer_class(policy.parameters(), lr=lr_schedule(1), **policy.optimizer_kwargs)

    @staticmethod
    def _process_sequence(
        features: Tensor, lstm_states: LSTMStates, episode_starts: Tensor, lstm: MemoryAsLSTM
    ) -> tuple[Tensor, LSTMStates]:
        N = lstm_states[0].shape[1]
        x, start = features.reshape(N, -1, lstm.input_size), episode_starts.reshape(N, -1) > 0.5
        y, states = lstm(x, lstm_states, start)
        return y.flatten(0, 1), states


class MemoryPolicy(_WithMemory, RecurrentActorCriticPolicy):
    """Policy for vector observations, instead of "MlpLstmPolicy". Arguments: see `_WithMemory`."""


class MemoryCnnPolicy(_WithMemory, RecurrentActorCriticCnnPolicy):
    """Policy for pictures, instead of "CnnLstmPolicy". Arguments: see `_WithMemory`."""


class MemoryMultiInputPolicy(_WithMemory, RecurrentMultiInputActorCriticPolicy):
    """Policy for Dict observations, instead of "MultiInputLstmPolicy". Arguments: see `_WithMemory`."""

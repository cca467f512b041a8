"""The actor-critic of PPO: encoder, position code, memory, two heads. One memory serves both heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from ..checks import check_fields
from ..envs import Layout
from ..memory import State, make_memory
from ..ops.episodes import episode_steps
from .encoders import ObservationEncoder, PositionCode
from .heads import Categorical, Gaussian, LegalActions, Product, make_head
from .normalisation import ObservationNormaliser, ValueHead
from .policy import Policy
from .precision import Narrowed, narrowed


@dataclass
class NetworkConfig:
    """Sizes of the network around the memory (recipes: SHM paper, appendix on POPGym)."""

    embed_size: int = 128
    """number of features of the encoded observation"""
    hidden_size: int = 64
    """number of features fed to the memory, and of the hidden layers of the heads"""
    memory_input_activation: bool = True
    """whether a ReLU precedes the memory (as in the code of the SHM paper); without it, the memory's input is linear in the
    position code, and what the memory learns about one position carries over to others"""
    memory_output_size: int = 64
    """number of features of the memory's output (1024 in the code of the SHM paper)"""
    position_code: bool = True
    """whether a sine code of the step within the episode is mixed into the encoded observation"""
    start_code: bool = False
    """whether a learned vector is added to the memory's input at the first step of an episode: without it, a memory whose gates
    depend on the input alone (all but the recurrent networks) cannot recognise the first observation. It makes control tasks
    worse"""
    head_activation: bool = True
    """whether there is a ReLU between the two linear layers of each head (none in the code of the SHM paper)"""
    normalise_observations: bool = True
    """whether observations that are numbers with units are normalised by running statistics to mean 0 and standard deviation 1;
    PPO updates these statistics in the first half of a run"""
    normalise_values: bool = True
    """whether values are learned in units of the standard deviation of their targets, so that the scale of rewards does not
    matter"""

    def __post_init__(self) -> None:
        check_fields(self, ("embed_size", "hidden_size", "memory_output_size"), at_least=1)


class ActorCritic(Policy, Narrowed):
    """PPO's network: (obs, state, start) -> (action parameters, value, state).

    Args:
        layout: layout of the observations.
        action_space: action space of a single environment.
        memory: name of the memory.
        memory_size: size of the memory, in its own unit; None: the memory's default.
        memory_options: further options of the memory.
        config: sizes and options of the network around the memory.
    """

    def __init__(
        self,
        layout: Layout,
        action_space: spaces.Space[Any],
        memory: str,
        memory_size: int | None = None,
        memory_options: Mapping[str, Any] | None = None,
        config: NetworkConfig | None = None,
    ) -> None:
        super().__init__()
        config = config or NetworkConfig()
        hidden = config.hidden_size
        self.head: Categorical | Gaussian | Product = make_head(action_space)
        self.legal = LegalActions(layout, self.head)
        self.normaliser = ObservationNormaliser(layout, config.normalise_observations)
        self.encoder = ObservationEncoder(layout, config.embed_size)
        self.position = PositionCode(config.embed_size) if config.position_code else None
        before = nn.ReLU() if config.memory_input_activation else nn.Identity()
        self.before = nn.Sequential(nn.Linear(config.embed_size, hidden), before)
        self.memory = make_memory(memory, hidden, config.memory_output_size, memory_size, **(memory_options or {}))
        self.after = nn.Sequential(nn.Linear(config.memory_output_size, hidden), nn.ReLU())
        between = nn.ReLU() if config.head_activation else nn.Identity()
        logits, self.value = nn.Linear(hidden, self.head.size), ValueHead(hidden, config.normalise_values)
        self.actor = nn.Sequential(nn.Linear(hidden, hidden), between, logits)
        self.critic = nn.Sequential(nn.Linear(hidden, hidden), between)
        # orthogonal weights outside the memory (which initialises itself), nearly zero logits, zero values
        for part in (self.encoder, self.before, self.after, self.actor, self.critic):
            for module in part.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    nn.init.orthogonal_(module.weight)
        nn.init.normal_(logits.weight, std=0.01)
        nn.init.zeros_(logits.bias)

        self.first = nn.Parameter(torch.randn(hidden)) if config.start_code else None

    def initial_state(self, batch_size: int) -> State:
        """The memory's state and the step within the episode."""
        position = torch.zeros(batch_size, dtype=torch.int64, device=next(self.parameters()).device)
        return {"position": position, **self.memory.initial_state(batch_size)}

    def forward(self, obs: Tensor, state: State, start: Tensor) -> tuple[Tensor, Tensor, State]:
        """Run over a sequence.

        Args:
            obs: (B, T, layout.size).
            state: the state before the first step.
            start: (B, T) bool, see Memory.

        Returns:
            action parameters (B, T, head.size), values (B, T), the state after the last step.
        """
        x, state = self._features(obs, state, start)
        return self.legal(self.actor(x), obs), self.value(self.critic(x)), state

    def distribution(self, obs: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Policy."""
        x, state = self._features(obs, state, start)
        return self.legal(self.actor(x), obs), state

    @narrowed
    def _features(self, obs: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """The input of both heads, (B, T, hidden_size), and the state after the last step."""
        x = self.encoder(self.normaliser(obs))
        steps = episode_steps(start, state["position"])
        position = steps[:, -1] + 1
        if self.position is not None:
            x = self.position(x, steps)
        memory_state = {name: leaf for name, leaf in state.items() if name != "position"}
        x = self.before(x)
        if self.first is not None:
            x = torch.where(start[..., None], x + self.first, x)
        x, memory_state = self.memory(x, memory_state, start)
        return self.after(x), {"position": position, **memory_state}

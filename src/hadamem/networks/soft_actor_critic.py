"""The networks of soft actor-critic and R2D2: an actor, a pair of critics, and a network of action values.

Actor and critics each have their own memory and the same structure: embeddings of observation, previous action and previous
reward, concatenated, are the input of the memory. Its output is concatenated with a second embedding of the current observation
(and, for critics, of the current action), and followed by an MLP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from ..checks import check_fields
from ..envs import Layout, Leaf
from ..memory import State, make_memory
from .encoders import ObservationEncoder
from .heads import Categorical, LegalActions, SquashedGaussian, make_head
from .normalisation import ObservationNormaliser
from .policy import Policy
from .precision import Narrowed, narrowed


@dataclass
class SACNetworkConfig:
    """Sizes of the networks around the memories. The defaults are the released sizes for the Wind task."""

    observation_embed: int = 32
    """number of features of the embedded observation"""
    action_embed: int = 8
    """number of features of the embedded previous action; 0: the previous action is not an input"""
    reward_embed: int = 0
    """number of features of the embedded previous reward; 0: the previous reward is not an input"""
    memory_output_size: int = 64
    """number of features of the memory's output"""
    hidden_sizes: tuple[int, ...] = (128, 128)
    """sizes of the hidden layers of the MLP after the memory"""
    normalise_observations: bool = True
    """whether observations that are numbers with units are normalised by running statistics to mean 0 and standard deviation
    1"""
    released_initialisation: bool = False
    """whether memories start with orthogonal weights and biases of 0, and the hidden layers of the MLPs with biases of 0.1 and
    weights uniform within +-1 / sqrt(number of output features), as in the code of the SHM paper"""

    def __post_init__(self) -> None:
        check_fields(self, ("observation_embed", "memory_output_size"), at_least=1)
        check_fields(self, ("action_embed", "reward_embed"), at_least=0)
        if min(self.hidden_sizes, default=1) < 1:
            raise ValueError(f"hidden_sizes are {self.hidden_sizes}; each must be at least 1")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs of the memories, by the names that `make_vector` uses."""
        sizes = {"action": self.action_embed, "reward": self.reward_embed}
        return ("obs", *(name for name, size in sizes.items() if size))


@dataclass
class MemoryChoice:
    """The name of a memory, its size in its own unit (None: its default), and its further options."""

    name: str
    size: int | None = None
    options: Mapping[str, Any] | None = None


class _MemoryEncoder(Narrowed):
    """Embeddings and memory: (B, T, D) rows of observations -> (B, T, size) features.

    Vectors are embedded by a linear map and a ReLU. Images are embedded by convolutions without a final activation; since these
    are costly, the same embedding is also concatenated with the memory's output (as in the released code).
    """

    def __init__(self, layout: Layout, memory: MemoryChoice, config: SACNetworkConfig) -> None:
        super().__init__()
        obs, action, reward = (layout.part(name) for name in ("obs", "action", "reward"))
        if not obs.leaves:
            raise ValueError("inputs do not hold 'obs', which the networks of SAC and R2D2 need")
        self.sees_images = bool(obs.images)
        self.obs = ObservationEncoder(obs, config.observation_embed, nn.Identity() if self.sees_images else nn.ReLU())
        self.input_size = config.observation_embed
        history = []
        for name, part, size in (("action", action, config.action_embed), ("reward", reward, config.reward_embed)):
            if part.leaves and not size:
                raise ValueError(
                    f"inputs hold {name!r}, but {name}_embed is 0; give it features, or leave it out of the inputs"
                )
            if part.leaves:
                history.append(ObservationEncoder(part, size, nn.ReLU()))
                self.input_size += size
        self.history = nn.ModuleList(history)
        options = memory.options or {}
        self.memory = make_memory(memory.name, self.input_size, config.memory_output_size, memory.size, **options)
        if config.released_initialisation:
            self.memory.initialise_orthogonal()
        self.size = config.memory_output_size + (config.observation_embed if self.sees_images else 0)

    def initial_state(self, batch_size: int, clock: Tensor | None = None) -> State:
        """The memory's initial state; with a clock (B,), the memory's random draws are those of that clock."""
        state = self.memory.initial_state(batch_size)
        return state if clock is None else self.memory.begin_at(state, clock)

    @narrowed
    def forward(self, obs: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        embedded = self.obs(obs)
        x = torch.cat([*(encoder(obs) for encoder in self.history), embedded], dim=-1)
        h, state = self.memory(x, state, start)
        return (torch.cat([h, embedded], dim=-1) if self.sees_images else h), state


class SoftActor(Policy):
    """SAC's actor: (obs, state, start) -> (parameters of a distribution over actions, state).

    Args:
        layout: layout of the observations.
        action_space: action space of a single environment, Box or Discrete.
        memory: the memory to use.
        config: sizes and options of the network around the memory.
    """

    head: Categorical | SquashedGaussian

    def __init__(self, layout: Layout, action_space: spaces.Space[Any], memory: MemoryChoice, config: SACNetworkConfig) -> None:
        super().__init__()
        self.head = soft_head(action_space)
        self.legal = LegalActions(layout, self.head)
        self.normaliser = ObservationNormaliser(layout, config.normalise_observations)
        self.encoder = _MemoryEncoder(layout, memory, config)
        size = self.encoder.size
        self.beside: ObservationEncoder | None = None
        if not self.encoder.sees_images:
            self.beside = ObservationEncoder(layout.part("obs"), config.observation_embed, nn.ReLU())
            size += config.observation_embed
        self.mlp = _mlp([size, *config.hidden_sizes, self.head.size], 1e-3, config.released_initialisation)

    def initial_state(self, batch_size: int, clock: Tensor | None = None) -> State:
        """The memory's initial state; with a clock (B,), the memory's random draws are those of that clock."""
        return self.encoder.initial_state(batch_size, clock)

    def forward(self, obs: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """Observations (B, T, D) -> parameters (B, T, head.size), and the state after the last step."""
        obs = self.normaliser(obs)  # which does not change masks
        features, state = self.encoder(obs, state, start)
        if self.beside is not None:
            features = torch.cat([features, self.beside(obs)], dim=-1)
        return self.legal(self.mlp(features), obs), state


class QNetwork(SoftActor):
    """R2D2's network: (obs, state, start) -> (values of all discrete actions, state). Illegal actions have very low values.

    The values take the place of logits. With `greedy=False`, `act` chooses a random legal action with probability `epsilon`,
    and otherwise the best one.
    """

    head: Categorical
    epsilon = 0.05

    def __init__(self, layout: Layout, action_space: spaces.Space[Any], memory: MemoryChoice, config: SACNetworkConfig) -> None:
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(
                f"action space {action_space} is not supported by R2D2; it must be Discrete; --agent ppo supports more"
            )
        super().__init__(layout, action_space, memory, config)

    @torch.no_grad()
    def act(self, obs: Tensor, state: State, start: Tensor, greedy: bool) -> tuple[Tensor, State]:
        """See Policy."""
        values, state = self.distribution(obs[:, None], state, start[:, None])
        best = self.head.mode(values[:, 0])
        if greedy:
            return best, state
        anything = self.head.sample(self.legal(torch.zeros_like(values[:, 0]), obs))
        explores = torch.rand(len(best), 1, device=best.device) < self.epsilon
        return torch.where(explores, anything, best), state


class TwinCritic(nn.Module):
    """Two estimates of action values from one memory. Only layers after the memory depend on the action. Observations have to
    be normalised by the caller.

    Args:
        layout: layout of the observations.
        head: the actor's distribution; for a Categorical, the values of all actions are computed at once.
        memory: the memory to use.
        config: sizes and options of the network around the memory.
    """

    def __init__(
        self, layout: Layout, head: Categorical | SquashedGaussian, memory: MemoryChoice, config: SACNetworkConfig
    ) -> None:
        super().__init__()
        self.encoder = _MemoryEncoder(layout, memory, config)
        discrete = isinstance(head, Categorical)
        now = () if self.encoder.sees_images else layout.part("obs").leaves
        if not discrete:
            now = (*now, Leaf("action", "vector", (head.action_size,), layout.size))
        self.beside = ObservationEncoder(Layout(now), self.encoder.input_size, nn.ReLU()) if now else None
        size = self.encoder.size + (self.encoder.input_size if now else 0)
        sizes = [size, *config.hidden_sizes, head.size if discrete else 1]
        self.heads = nn.ModuleList(_mlp(sizes, 3e-3, config.released_initialisation) for _ in range(2))

    def features(self, obs: Tensor, clock: Tensor) -> Tensor:
        """The features from which values are computed: sequences (B, T, D) that begin with the clock (B,) -> (B, T, F)."""
        B, T, _ = obs.shape
        start = torch.zeros(B, T, dtype=torch.bool, device=obs.device)
        return self.encoder(obs, self.encoder.initial_state(B, clock), start)[0]

    def values(self, features: Tensor, obs: Tensor, action: Tensor | None = None) -> Tensor:
        """The values (2, B, T) of actions (B, T, K) between -1 and 1, or (2, B, T, A) of all discrete actions."""
        if self.beside is not None:
            now = obs if action is None else torch.cat([obs, action], dim=-1)
            features = torch.cat([features, self.beside(now)], dim=-1)
        values = torch.stack([head(features) for head in self.heads])
        return values if action is None else values.squeeze(-1)


def soft_head(space: spaces.Space[Any]) -> Categorical | SquashedGaussian:
    """SAC's distribution for an action space: Discrete or a bounded Box; raises a ValueError for any other space."""
    if isinstance(space, spaces.Box):
        return SquashedGaussian(space)
    if isinstance(space, spaces.Discrete):
        head = make_head(space)
        assert isinstance(head, Categorical)
        return head
    raise ValueError(f"action space {space} is not supported by SAC; it must be Discrete or Box; --agent ppo supports more")


def _mlp(sizes: list[int], last: float, released: bool) -> nn.Sequential:
    """Linear layers with ReLUs between them. The last one starts uniform within +-last, near zero (Lillicrap et al., 2016)."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        linear = nn.Linear(before, after)
        if released:
            nn.init.uniform_(linear.weight, -(after**-0.5), after**-0.5)
            nn.init.constant_(linear.bias, 0.1)
        layers += [linear, nn.ReLU(inplace=True)]
    for parameter in layers[-2].parameters():
        nn.init.uniform_(parameter, -last, last)
    return nn.Sequential(*layers[:-1])

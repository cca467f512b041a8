"""Any memory inside RLlib: an RLModule of its new API stack, for PPO and other algorithms that train on sequences.

    config = PPOConfig().environment("CartPole-v1").rl_module(
        rl_module_spec=RLModuleSpec(MemoryRLModule, model_config={"memory": "shm", "max_seq_len": 32})
    )

RLlib keeps the state between steps, cuts episodes into sequences of `max_seq_len` steps and pads them; each sequence begins
with the state that the memory had at its first step.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn
from torch.nn import functional as F

from ..memory import make_memory


class MemoryRLModule(TorchRLModule, ValueFunctionAPI):
    """An embedding of observations, a memory, and after it a head for the policy and one for values.

    `model_config` may hold:
        memory: name of the memory (see `hadamem list memories`); default "shm".
        memory_size: size of the memory, in its own unit; default None, the memory's own default.
        memory_options: a dict of options of the memory.
        features: number of features of the embedded observation and of the memory's output; default 64.
        max_seq_len: RLlib's own option, number of steps of the sequences in training.
    """

    def setup(self) -> None:
        """Build the network; RLlib calls it."""
        options = self.model_config
        features = options.get("features", 64)
        self.discrete = isinstance(self.observation_space, spaces.Discrete)
        self.embed = nn.Linear(spaces.flatdim(self.observation_space), features)
        self.memory = make_memory(
            options.get("memory", "shm"), features, features, options.get("memory_size"), **options.get("memory_options", {})
        )
        a_number = 2 if isinstance(self.action_space, spaces.Box) else 1  # parameters per number: mean and deviation, or logit
        self.policy = _head(features, a_number * spaces.flatdim(self.action_space))
        self.value = _head(features, 1)

    def get_initial_state(self) -> dict[str, Any]:
        """The initial state of one environment, without a batch dimension."""
        return {name: leaf[0].cpu().numpy() for name, leaf in self.memory.initial_state(1).items()}

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        features, state = self._features(batch)
        return {
            Columns.ACTION_DIST_INPUTS: self.policy(features),
            Columns.STATE_OUT: state,
            Columns.EMBEDDINGS: features,
        }

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """Values (B, T) of the observations in a batch."""
        features = self._features(batch)[0] if embeddings is None else embeddings
        return self.value(features).squeeze(-1)

    def _features(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        obs = batch[Columns.OBS]
        obs = F.one_hot(obs.long(), self.embed.in_features).float() if self.discrete else obs.float().flatten(2)
        x = self.embed(obs)
        nothing = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)  # an episode begins with the initial state
        return self.memory(x, batch[Columns.STATE_IN], nothing)


def _head(features: int, size: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, size))

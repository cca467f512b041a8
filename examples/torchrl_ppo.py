"""TorchRL's PPO (collector, GAE, ClipPPOLoss) on RepeatPrevious with any memory of hadamem: python torchrl_ppo.py --memory shm

It needs hadamem and `pip install torchrl`.
"""

from __future__ import annotations

import argparse

import popgym  # noqa: F401  registers its tasks, which TorchRL then finds in Gymnasium
import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import Compose, GymEnv, InitTracker, RewardSum, SerialEnv, TransformedEnv
from torchrl.modules import OneHotCategorical, ProbabilisticActor, ValueOperator, set_recurrent_mode
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from hadamem.integrations.torchrl import MemoryModule


def main() -> None:
    """Train, and print the mean return of the episodes that ended in each iteration."""
    parser = argparse.ArgumentParser(description="Train TorchRL's PPO with a memory of hadamem.")
    parser.add_argument("--memory", default="shm")
    parser.add_argument("--env", default="popgym-RepeatPreviousEasy-v0")
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--num-steps", type=int, default=128)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)

    memory = MemoryModule(given.memory, 64, 64)
    one = GymEnv(given.env, categorical_action_encoding=False)
    features, actions = one.observation_spec["observation"].shape[-1], one.action_spec.shape[-1]
    embed = TensorDictModule(nn.Sequential(Floats(), nn.Linear(features, 64)), in_keys=["observation"], out_keys=["embed"])
    body = TensorDictSequential(embed, memory)
    head = TensorDictModule(mlp(actions), in_keys=["features"], out_keys=["logits"])
    actor = ProbabilisticActor(
        TensorDictSequential(body, head), in_keys=["logits"], distribution_class=OneHotCategorical, return_log_prob=True
    )
    critic = TensorDictSequential(body, ValueOperator(mlp(1), in_keys=["features"]))

    def make() -> TransformedEnv:
        transforms = Compose(InitTracker(), memory.make_tensordict_primer(), RewardSum())
        return TransformedEnv(GymEnv(given.env, categorical_action_encoding=False), transforms)

    batch = given.num_envs * given.num_steps
    collector = Collector(SerialEnv(given.num_envs, make), actor, frames_per_batch=batch, total_frames=given.steps)
    advantage = GAE(gamma=0.98, lmbda=0.9, value_network=critic, average_gae=True, shifted=True, deactivate_vmap=True)
    loss_of = ClipPPOLoss(actor, critic, entropy_coeff=0.01, clip_epsilon=0.2)
    optimiser = torch.optim.Adam(loss_of.parameters(), lr=5e-4)
    done = 0
    for data in collector:
        with set_recurrent_mode(True):
            for _ in range(10):
                with torch.no_grad():
                    advantage(data)
                for rows in torch.randperm(given.num_envs).chunk(4):
                    losses = loss_of(data[rows])
                    optimiser.zero_grad()
                    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
                    nn.utils.clip_grad_norm_(loss_of.parameters(), 0.5)
                    optimiser.step()
        done += batch
        returns = data["next", "episode_reward"][data["next", "done"]]
        print(f"{done} steps, return {returns.mean():.3f}" if len(returns) else f"{done} steps", flush=True)
    collector.shutdown()


class Floats(nn.Module):
    """Converts observations to floating-point numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return x.float()


def mlp(size: int) -> nn.Module:
    """A network from the memory's output to logits or a value."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, size))


if __name__ == "__main__":
    main()

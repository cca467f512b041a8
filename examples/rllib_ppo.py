"""RLlib's PPO (new API stack) on RepeatPrevious with any memory of hadamem: python rllib_ppo.py --memory shm

It needs hadamem and `pip install 'ray[rllib]'`.
"""

from __future__ import annotations

import argparse

import gymnasium
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.tune.registry import register_env

from hadamem.integrations.rllib import MemoryRLModule


def make(config: dict) -> gymnasium.Env:
    """Make the task. RLlib calls this in the process that steps it; popgym registers its tasks when it is imported."""
    import popgym  # noqa: F401

    return gymnasium.make(config["id"])


def main() -> None:
    """Train, and print the mean return of the latest episodes after each iteration."""
    parser = argparse.ArgumentParser(description="Train RLlib's PPO with a memory of hadamem.")
    parser.add_argument("--memory", default="shm")
    parser.add_argument("--env", default="popgym-RepeatPreviousEasy-v0")
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=4096)
    given = parser.parse_args()
    register_env("task", make)
    config = (
        PPOConfig()
        .environment("task", env_config={"id": given.env})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=16)
        .rl_module(rl_module_spec=RLModuleSpec(MemoryRLModule, model_config={"memory": given.memory, "max_seq_len": 64}))
        .training(
            train_batch_size_per_learner=given.batch, minibatch_size=given.batch // 4, num_epochs=10, lr=5e-4, gamma=0.98,
            lambda_=0.9, entropy_coeff=0.01, grad_clip=0.5, vf_clip_param=float("inf"),
        )
    )  # fmt: skip
    algorithm = config.build_algo()
    done = 0
    while done < given.steps:
        found = algorithm.train()["env_runners"]
        done = int(found["num_env_steps_sampled_lifetime"])
        print(f"{done} steps, return {found.get('episode_return_mean', float('nan')):.3f}", flush=True)
    algorithm.stop()


if __name__ == "__main__":
    main()

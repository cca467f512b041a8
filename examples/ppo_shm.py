"""PPO with a Stable Hadamard Memory in one file, in the style of CleanRL: only the memory is hadamem's.

A rollout has B environments (rows) and T steps. The memory's state before its first step is stored, and the update recomputes
whole rows from that state, with the resets inside them: without padding, without masks. hadamem does the same with more care.

    python examples/ppo_shm.py                                  # CartPole without velocities, about a minute
    python examples/ppo_shm.py --env CartPole-v1 --memory gru --steps 50000
"""

from __future__ import annotations

import argparse
import time

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

import hadamem
import hadamem.envs  # registers hadamem/...

#: Size and options of the memories that need them: for SHM, those of hadamem's default recipe.
OPTIONS = {
    "shm": {
        "size": 32, "heads": 4, "lag_heads": 2, "mirror_heads": 2, "feature_map": "softmax", "theta": "centred",
        "table_scale": 0.1, "input_norm": False, "read_norm": True, "read_scale": 0.03, "shortcut": True, "convolution": 4,
    }
}  # fmt: skip


class Agent(nn.Module):
    """Embedding, memory, and one linear layer each for the policy and the value."""

    def __init__(self, features: int, actions: int, memory: str) -> None:
        super().__init__()
        self.register_buffer("moments", torch.zeros(3, features))  # count, sum and sum of squares of observations
        self.embed = nn.Sequential(nn.Linear(features, 64), nn.Tanh())
        self.memory = hadamem.make_memory(memory, input_size=64, output_size=64, **OPTIONS.get(memory, {}))
        self.policy, self.value = nn.Linear(64, actions), nn.Linear(64, 1)
        nn.init.orthogonal_(self.policy.weight, 0.01)
        nn.init.zeros_(self.value.weight)

    @torch.no_grad()
    def see(self, obs: Tensor) -> None:
        """Add observations to the statistics, between updates only, so that a rollout and its update see the same numbers."""
        rows = obs.flatten(0, -2)
        self.moments += torch.stack([torch.full_like(rows[0], len(rows)), rows.sum(0), rows.square().sum(0)])

    def forward(self, x: Tensor, state: dict[str, Tensor], start: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """x (B, T, features), start (B, T) bool -> logits (B, T, actions), values (B, T), the state after them."""
        count, total, squares = self.moments.clamp(min=torch.tensor([[1.0], [-torch.inf], [0.0]]))
        deviation = (squares / count - (total / count).square()).clamp(min=1e-6).sqrt()
        x = self.embed(((x - total / count) / deviation).clamp(-10, 10))
        y, state = self.memory(x, state, start)
        y = x + torch.tanh(y)
        return self.policy(y), self.value(y).squeeze(-1), state


def main() -> None:
    """Train, and print the mean return of the latest 50 episodes at least 10 seconds apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="hadamem/CartPoleNoVel-v0", help="id of a task with vectors and discrete actions")
    parser.add_argument("--memory", default="shm")
    parser.add_argument("--steps", type=int, default=150_000)
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--num-steps", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--minibatches", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--gamma", type=float, default=0.98)
    parser.add_argument("--gae-lambda", type=float, default=0.9)
    parser.add_argument("--clip", type=float, default=0.2)
    parser.add_argument("--entropy", type=float, default=0.005)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    B, T = args.num_envs, args.num_steps
    # a step that ends an episode returns the first observation of the next episode, without a step that does nothing
    reset_at_once = gym.vector.AutoresetMode.SAME_STEP
    envs = gym.make_vec(args.env, B, "sync", vector_kwargs={"autoreset_mode": reset_at_once})
    agent = Agent(envs.single_observation_space.shape[0], int(envs.single_action_space.n), args.memory)
    optimiser = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)

    obs = torch.zeros(B, T, *envs.single_observation_space.shape)
    start, end = (torch.zeros(B, T, dtype=torch.bool) for _ in range(2))
    action = torch.zeros(B, T, dtype=torch.int64)
    log_prob, value, reward = (torch.zeros(B, T) for _ in range(3))

    next_obs = torch.from_numpy(envs.reset(seed=args.seed)[0]).float()
    next_start, state = torch.ones(B, dtype=torch.bool), agent.memory.initial_state(B)
    running, finished, begin, said = np.zeros(B), list[float](), time.time(), 0
    for done in range(0, args.steps, B * T):
        optimiser.param_groups[0]["lr"] = args.learning_rate * (1 - done / args.steps)
        first = state  # before the rollout
        with torch.no_grad():
            for t in range(T):
                obs[:, t], start[:, t] = next_obs, next_start
                logits, value_t, state = agent(next_obs[:, None], state, next_start[:, None])
                choice = torch.distributions.Categorical(logits=logits[:, 0])
                action[:, t], value[:, t] = choice.sample(), value_t[:, 0]
                log_prob[:, t] = choice.log_prob(action[:, t])
                seen, gained, terminated, truncated, info = envs.step(action[:, t].numpy())
                reward[:, t] = torch.from_numpy(gained)
                over = terminated | truncated
                if truncated.any():  # bootstrap from the value of the last observation of the episode
                    last = np.stack([info["final_obs"][i] if truncated[i] else seen[i] for i in range(B)])
                    going_on = torch.zeros(B, 1, dtype=torch.bool)
                    beyond = agent(torch.from_numpy(last).float()[:, None], state, going_on)[1][:, 0]
                    reward[:, t] += args.gamma * torch.where(torch.from_numpy(truncated), beyond, 0.0)
                running += gained
                finished += running[over].tolist()
                running[over] = 0
                end[:, t] = next_start = torch.from_numpy(over)
                next_obs = torch.from_numpy(seen).float()
            next_value = agent(next_obs[:, None], state, next_start[:, None])[1][:, 0]

            advantage, later = torch.zeros(B, T), torch.zeros(B)
            for t in reversed(range(T)):
                going_on = (~end[:, t]).float()
                delta = reward[:, t] + args.gamma * next_value * going_on - value[:, t]
                later = delta + args.gamma * args.gae_lambda * going_on * later
                advantage[:, t], next_value = later, value[:, t]
        target = advantage + value
        unit = target.std() + 1e-8  # so that the scale of the returns does not matter
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)

        for _ in range(args.epochs):
            for rows in torch.randperm(B).chunk(args.minibatches):
                before = {name: leaf[rows] for name, leaf in first.items()}
                logits, now, _ = agent(obs[rows], before, start[rows])
                choice = torch.distributions.Categorical(logits=logits)
                ratio = (choice.log_prob(action[rows]) - log_prob[rows]).exp()
                clipped = ratio.clamp(1 - args.clip, 1 + args.clip)
                policy_loss = -torch.minimum(ratio * advantage[rows], clipped * advantage[rows]).mean()
                value_loss = ((now - target[rows]) / unit).square().mean()
                loss = policy_loss + 0.5 * value_loss - args.entropy * choice.entropy().mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimiser.step()

        agent.see(obs)
        steps = done + B * T
        if finished and (time.time() - said > 10 or steps >= args.steps):
            said = time.time()
            speed = steps / (time.time() - begin)
            print(f"{steps:,} steps, return {np.mean(finished[-50:]):.1f}, {speed:,.0f} steps/s", flush=True)
    envs.close()


if __name__ == "__main__":
    main()

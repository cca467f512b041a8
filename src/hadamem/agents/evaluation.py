"""Evaluation of a policy: whole episodes on fresh seeds, a fixed number from each environment.

Taking the first episodes that end in any environment would favour short ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..checks import check_number
from ..envs import VectorEnvironment
from ..envs.border import notice
from ..envs.vector import Episode
from ..networks import Policy
from .rollout import Player

#: Steps after which an evaluation truncates an episode, if the environment has no time limit of its own.
MAX_STEPS = 10_000


@dataclass(frozen=True)
class Evaluation:
    """How good a policy is.

    Attributes:
        mean: return of an episode.
        std: standard deviation of the returns of single episodes.
        ci95: half the width of the 95 % interval of the mean.
        episodes: how many were played.
        mean_length: steps of an episode.
        success_rate: share of successful episodes; None where the task does not tell success.
        inner_means: mean returns of inner episodes, where all episodes have the same number of them, at least two; else None.
    """

    mean: float
    std: float
    ci95: float
    episodes: int
    mean_length: float
    success_rate: float | None = None
    inner_means: tuple[float, ...] | None = None

    def better_than(self, other: Evaluation) -> bool:
        """Whether the 95 % interval of the mean lies above that of another."""
        return self.mean - self.ci95 > other.mean + other.ci95


@torch.no_grad()
def evaluate(
    env: VectorEnvironment,
    policy: Policy | None,
    episodes: int,
    greedy: bool = True,
    progress: Callable[[int, int], None] | None = None,
    tasks: Sequence[int] | None = None,
    max_steps: int = MAX_STEPS,
    partial: bool = False,
) -> Evaluation:
    """Play `episodes` episodes.

    Args:
        env: newly made environments.
        policy: the policy that plays; None: random actions.
        episodes: number of episodes, at least 1.
        greedy: take the most likely action instead of a random one.
        progress: called with the number of episodes played so far, and the number of steps made in each environment.
        tasks: which of the `env.num_tasks` tasks each environment begins with; None: drawn by the environment.
        max_steps: steps after which episodes are truncated if the environment has no limit of its own; a notice gives their
            number.
        partial: on Ctrl-C, return the result of the episodes played so far, if there are any.
    """
    check_number("episodes", episodes, at_least=1)
    check_number("max_steps", max_steps, at_least=1)
    if policy is not None and policy.described:
        env.require(policy.described)
    may_be_cut = env.cut_endless(max_steps)
    N = env.num_envs
    wanted = [episodes // N + (i < episodes % N) for i in range(N)]
    player = Player(policy, env, tasks)
    played: list[Episode] = []
    steps = 0
    try:
        while len(played) < episodes:
            steps += 1
            step = player.step(player.act(greedy))
            for i, episode in zip(step.start.nonzero().flatten().tolist(), step.episodes, strict=True):
                if wanted[i] > 0:
                    wanted[i] -= 1
                    played.append(episode)
            if progress is not None:
                progress(len(played), steps)
    except KeyboardInterrupt:
        if not (partial and played):
            raise
        notice(f"{env.id}: stopped after {len(played)} of {episodes} episodes, among which short episodes are overrepresented")
        episodes = len(played)
    if may_be_cut and (cut := sum(episode.length == max_steps for episode in played)):
        notice(
            f"{env.id}: {cut} of {episodes} episodes did not end within {max_steps:,} steps and were cut there; "
            "the environment has no limit of its own"
        )
    returns = torch.tensor([episode.return_ for episode in played], dtype=torch.float64)
    std = returns.std().item() if episodes > 1 else 0.0
    successes = [episode.success for episode in played if episode.success is not None]
    numbers = {len(episode.inner_returns) for episode in played}
    inner = [episode.inner_returns for episode in played] if len(numbers) == 1 and numbers.pop() > 1 else []
    return Evaluation(
        mean=returns.mean().item(),
        std=std,
        ci95=1.96 * std / math.sqrt(episodes),
        episodes=episodes,
        mean_length=sum(episode.length for episode in played) / episodes,
        success_rate=sum(successes) / len(successes) if successes else None,
        inner_means=tuple(torch.tensor(inner, dtype=torch.float64).mean(0).tolist()) if inner else None,
    )

"""Evaluation of a policy: whole episodes on fresh seeds, a fixed number from each environment.

Taking the first episodes that end in any environment would favour short ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..checks import check_number
from ..envs import VectorEnvironment
from ..envs.border import notice
from ..envs.vector import Episode
from ..networks import Policy
from .rollout import Player

#: Steps after which an evaluation truncates an episode, if the environment has no time limit of its own.
MAX_STEPS = 10_000


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
) -> dict[str, Any]:
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

    Returns:
        mean, std (of single episodes), ci95 (half the width of the 95 % interval of the mean), episodes and mean_length; also
        success_rate if the task reports success, and inner_means (mean returns of the inner episodes) if all episodes have the
        same number of inner episodes, at least two.
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
    result: dict[str, Any] = {
        "mean": returns.mean().item(),
        "std": std,
        "ci95": 1.96 * std / math.sqrt(episodes),
        "episodes": episodes,
        "mean_length": sum(episode.length for episode in played) / episodes,
    }
    successes = [episode.success for episode in played if episode.success is not None]
    if successes:
        result["success_rate"] = sum(successes) / len(successes)
    numbers = {len(episode.inner_returns) for episode in played}
    if len(numbers) == 1 and numbers.pop() > 1:
        inner = torch.tensor([episode.inner_returns for episode in played], dtype=torch.float64)
        result["inner_means"] = inner.mean(0).tolist()
    return result

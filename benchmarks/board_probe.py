"""Does a memory know at which cells of Battleship's board it has shot? Policy networks learn it, told at every step.

The episodes are those of a player who shoots at untried cells by chance. The network is that of `hadamem train`, and its 64
logits, one for each cell, learn by logistic regression which cells are untried. A policy that took the likeliest one would
play the rule "untried cells by chance" of `battleship.py` as well as it knows the board.

    python benchmarks/board_probe.py --memories shm gru
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

from battleship import RULES, UNTRIED, play
from hadamem.agents.cloning import read_episodes
from hadamem.agents.making import make_agent, make_environment
from hadamem.checks import check_fields
from hadamem.cli.console import show_status
from hadamem.recipes.presets import preset_config
from hadamem.text import markdown_table

_STEPS = 48  # of the beginning of each episode; nearly all are longer
_ROWS = 64  # sequences of an update, and of the test


@dataclass(kw_only=True)
class Arguments:
    """Teach memories which cells of a board were shot at."""

    memories: tuple[str, ...] = ("shm", "gru", "lstm", "ffm", "mamba", "mlp")
    """memories by name"""
    updates: int = 2000
    """gradient steps"""
    episodes: int = 5000
    """recorded episodes, the first 64 of which are the test"""
    learning_rate: float = 1e-3
    """learning rate of Adam"""

    def __post_init__(self) -> None:
        check_fields(self, ("updates",), at_least=1)
        check_fields(self, ("episodes",), at_least=100)


def probe(memory: str, episodes: list[object], given: Arguments) -> dict[str, str]:
    """Train the network of a memory; returns its row of the table."""
    torch.manual_seed(0)
    config = replace(preset_config("fast", "popgym-BattleshipEasy-v0", memory), joint_actions=True)
    env = make_environment(config, 2, 0)
    policy = make_agent(config, env).policy
    recorded = read_episodes(episodes, env.interface, 1, UNTRIED)
    env.close()
    first = [int(begin) for begin, end in zip(recorded.begin[:-1], recorded.begin[1:], strict=True) if end - begin >= _STEPS]
    obs, action = (torch.stack([x[n : n + _STEPS] for n in first]) for x in (recorded.obs, recorded.action))
    shots = F.one_hot(action.squeeze(-1).long(), 64)
    tried = shots.cumsum(dim=1) - shots
    policy.normaliser.update(recorded.obs)
    optimiser = torch.optim.Adam(policy.parameters(), given.learning_rate)
    start = (torch.arange(_STEPS) == 0).expand(_ROWS, -1)

    def logits_of(rows: Tensor) -> Tensor:
        logits, _, _ = policy(obs[rows], policy.initial_state(len(rows)), start)
        return logits

    row, begin = {"memory": memory}, time.perf_counter()
    for update in range(1, given.updates + 1):
        rows = torch.randint(_ROWS, len(obs), (_ROWS,))
        loss = F.binary_cross_entropy_with_logits(logits_of(rows), 1 - tried[rows].float())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
        optimiser.step()
        if update in (given.updates // 4, given.updates // 2, given.updates):
            with torch.no_grad():
                logits, truth = logits_of(torch.arange(_ROWS)), tried[:_ROWS]
            repeated = truth.gather(-1, logits.argmax(-1, keepdim=True)).float().mean().item()
            row[f"shot at again, after {update:,} updates"] = f"{100 * repeated:.1f} %"
            right = ((logits < 0) == truth.bool()).float().mean().item()
    return row | {"cells right": f"{100 * right:.1f} %", "seconds": f"{time.perf_counter() - begin:.0f}"}


def main() -> None:
    given = tyro.cli(Arguments)
    with show_status() as show:
        show(f"playing {given.episodes} episodes")
        episodes = play("Easy", RULES[UNTRIED], given.episodes)
        rows = []
        for memory in given.memories:
            show(f"{memory}: {given.updates} updates")
            rows.append(probe(memory, episodes, given))
    print(markdown_table(rows))


if __name__ == "__main__":
    main()

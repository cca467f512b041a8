"""What rules that anyone can write down reach on POPGym's Battleship: lines to hold learned policies against.

Each rule needs a little more than the one above it: nothing; a clock; a memory of the cells it shot at; a memory of the cells
it hit, too; and knowledge of the ships. The last is close to the best play: it shoots where most placements of the ships
fit what was seen, each ship counted by itself.

    python benchmarks/battleship.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import tyro
from numpy.typing import NDArray
from popgym.envs.battleship import Battleship

from hadamem.checks import check_fields
from hadamem.cli.console import show_status
from hadamem.deploy.recording import play_episode
from hadamem.text import markdown_table

LEVELS = ("Easy", "Medium", "Hard")


@dataclass(frozen=True)
class Seen:
    """What an agent with a perfect memory knows.

    Attributes:
        untried: (b, b), whether each cell of the board was not shot at yet.
        hits: (b, b), whether each cell was hit.
        steps: shots so far.
        ships: lengths of the ships.
    """

    untried: NDArray[np.bool_]
    hits: NDArray[np.bool_]
    steps: int
    ships: tuple[int, ...]

    @property
    def beside_hits(self) -> NDArray[np.bool_]:
        """(b, b), the untried cells next to a hit."""
        padded = np.pad(self.hits, 1)
        return self.untried & (padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:])


# the preference of a rule for each cell; the highest is shot at, and ties are decided by chance
Rule = Callable[[Seen], NDArray[np.generic]]


def likeliest(seen: Seen) -> NDArray[np.float64]:
    """The number of placements that cover each untried cell and no miss; those through known hits count most."""
    open_cells, size = seen.untried | seen.hits, len(seen.hits)
    count = np.zeros(seen.hits.shape)
    for length in seen.ships:
        for cells, hits, into in ((open_cells, seen.hits, count), (open_cells.T, seen.hits.T, count.T)):
            for start in range(size - length + 1):
                here = slice(start, start + length)
                into[here] += np.where(cells[here].all(axis=0), 100.0 ** hits[here].sum(axis=0), 0)
    return np.where(seen.untried, count, -1)


UNTRIED = "untried cells by chance"
RULES: dict[str, Rule] = {
    "any cell by chance": lambda seen: np.zeros_like(seen.hits),
    "cell after cell (a clock)": lambda seen: np.arange(seen.hits.size).reshape(seen.hits.shape) == seen.steps,
    UNTRIED: lambda seen: seen.untried,
    "untried cells, those beside a hit first": lambda seen: seen.untried.astype(int) + seen.beside_hits,
    "the cell that most placements of the ships cover": likeliest,
}


class Player:
    """Plays one episode by a rule."""

    def __init__(self, env: Battleship, rule: Rule, seed: int) -> None:
        size = env.board_size
        self.rule, self.chance, self.cells = rule, np.random.default_rng(seed), list[NDArray[np.int64]]()
        self.seen = Seen(np.ones((size, size), np.bool_), np.zeros((size, size), np.bool_), 0, tuple(env.ship_sizes))

    def choose(self, observation: Any, reward: float, info: dict[str, Any]) -> NDArray[np.int64]:
        """The next cell. The observation says whether the last one was hit."""
        if self.cells:
            self.seen.hits[*self.cells[-1]] |= bool(observation)
        preference = self.rule(replace(self.seen, steps=len(self.cells))).astype(float)
        best = np.argwhere(preference == preference.max())
        self.cells.append(best[self.chance.integers(len(best))])
        self.seen.untried[*self.cells[-1]] = False
        return self.cells[-1]


def play(level: str, rule: Rule, episodes: int) -> list[Any]:
    """Episodes played by a rule, as Minari's buffers."""
    env = gymnasium.make(f"popgym-Battleship{level}-v0", disable_env_checker=True)
    board = env.unwrapped
    assert isinstance(board, Battleship)
    return [play_episode(env, Player(board, rule, seed).choose, seed) for seed in range(episodes)]


@dataclass(kw_only=True)
class Arguments:
    """Play Battleship by rule."""

    episodes: int = 1000
    """episodes for each rule and size of the board"""

    def __post_init__(self) -> None:
        check_fields(self, ("episodes",), at_least=1)


def main() -> None:
    episodes = tyro.cli(Arguments).episodes
    rows = []
    with show_status() as show:
        for name, rule in RULES.items():
            row = {"rule": name}
            for level in LEVELS:
                show(f"Battleship{level}: {name}")
                returns = [sum(episode.rewards) for episode in play(level, rule, episodes)]
                row[level] = f"{np.mean(returns):.3f} ± {np.std(returns) / episodes**0.5:.3f}"
            rows.append(row)
    print(markdown_table(rows))


if __name__ == "__main__":
    main()

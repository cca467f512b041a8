"""Batched versions of the POPGym tasks of the SHM paper: all environments in one array.

Each environment owns a random generator, seeded as Gymnasium seeds it, and makes the same draws from it as the original. With
the same seed and actions, every observation, reward and flag equals that of the `popgym` package under
`gymnasium.vector.SyncVectorEnv` (Morad et al. 2023, arXiv 2303.01859). Letters: N environments, T time.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any

import numpy as np
from gymnasium import spaces

from .batched import BatchedTask, FixedLength

SUITS, COLORS, RANKS, DECK = 4, 2, 13, 52


class CardSequence(FixedLength):
    """Tasks that show the suits of shuffled cards one by one. `cards` has time as its first dimension: (T, N)."""

    mutable = ("clock", "cards")

    def __init__(self, num_envs: int, decks: int, max_steps: int, observation_space: spaces.Space[Any]) -> None:
        super().__init__(num_envs, max_steps, observation_space, spaces.Discrete(SUITS))
        self.cards = np.empty((DECK * decks, num_envs), np.int64)
        self._sorted = np.arange(DECK * decks) % SUITS

    def _draw(self) -> None:
        for i, generator in enumerate(self._generators):
            deck = self._sorted.copy()
            generator.shuffle(deck)
            self.cards[:, i] = deck[::-1]  # dealt from the end

    def _move(self, actions: np.ndarray) -> np.ndarray:
        answer, scale = self._graded()
        return np.zeros(self.num_envs) if answer is None else np.where(actions == answer, scale, -scale)

    @abstractmethod
    def _graded(self) -> tuple[np.ndarray | None, float]:
        """The right answers (N,) at this step, or None if no answer is wanted, and the reward for a right answer."""


class RepeatPrevious(CardSequence):
    """Name the suit seen k - 1 observations before the current one."""

    def __init__(self, num_envs: int, decks: int, k: int) -> None:
        super().__init__(num_envs, decks, DECK * decks - 1, spaces.Discrete(SUITS))
        self.k = k

    def _graded(self) -> tuple[np.ndarray | None, float]:
        seen = self.clock + 1
        return (self.cards[seen - self.k] if seen >= self.k else None), 1 / (len(self.cards) - self.k)

    def _observe(self) -> np.ndarray:
        return self.cards[self.clock].copy()


class Autoencode(CardSequence):
    """Watch all cards, then name their suits from the last to the first.

    Observations are (mode, suit) with mode 1 to watch and 0 to play. The last card is shown in play mode, and is the
    first to be named.
    """

    def __init__(self, num_envs: int, decks: int) -> None:
        space = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(SUITS)))
        super().__init__(num_envs, decks, 2 * DECK * decks - 1, space)
        self._last = DECK * decks - 1

    def _graded(self) -> tuple[np.ndarray | None, float]:
        mirrored = 2 * self._last - self.clock
        return (self.cards[mirrored] if self.clock >= self._last else None), 1 / len(self.cards)

    def _observe(self) -> tuple[np.ndarray, np.ndarray]:
        mode = np.full(self.num_envs, int(self.clock < self._last))
        suit = self.cards[self.clock].copy() if self.clock <= self._last else np.zeros(self.num_envs, np.int64)
        return mode, suit


class Battleship(BatchedTask):
    """Shoot at a hidden fleet; the observation only tells whether the last shot was a new hit."""

    obs_requires_prev_action = True
    mutable = ("afloat", "hits", "steps")
    ships = (2, 3, 3, 4)

    def __init__(self, num_envs: int, board: int) -> None:
        super().__init__(num_envs, spaces.Discrete(2), spaces.MultiDiscrete([board, board]))
        self.board = board
        self.max_steps = board * board
        self.afloat = np.zeros((num_envs, board * board), np.bool_)  # cells of ships not yet hit
        self.hits = np.zeros(num_envs, np.int64)
        self.steps = np.zeros(num_envs, np.int64)
        self.hit = np.zeros(num_envs, np.int64)

    def _begin(self, rows: np.ndarray) -> None:
        self.hits[rows] = self.steps[rows] = self.hit[rows] = 0
        self.afloat[rows] = False
        for i in rows:
            self.afloat[i, list(self._fleet(self._generators[i]))] = True

    def _fleet(self, generator: np.random.Generator) -> set[int]:
        """The cells of all ships. Each ship is drawn again while it reaches off the board or touches a cell of another ship."""
        fleet: set[int] = set()
        for ship in self.ships:
            while True:
                start = generator.integers(self.board, size=2).tolist()
                axis, backwards = generator.integers(2, size=2).tolist()
                first = start[axis] - (ship - 1) * backwards
                if first < 0 or first + ship > self.board:
                    continue
                across = start[1 - axis]
                along = range(first, first + ship)
                cells = {across * self.board + j if axis else j * self.board + across for j in along}
                if not fleet & cells:
                    fleet |= cells
                    break
        return fleet

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cell = actions[:, 0] * self.board + actions[:, 1]
        hit = self.afloat[self._all, cell]
        self.afloat[self._all, cell] = False
        self.hit = hit.astype(np.int64)
        self.hits += self.hit
        self.steps += 1
        cells = sum(self.ships)
        reward = np.where(hit, 1 / cells, -1 / (self.max_steps - cells))
        return reward, self.hits == cells, self.steps >= self.max_steps

    def _observe(self) -> np.ndarray:
        return self.hit.copy()


class Concentration(BatchedTask):
    """Find pairs of equal cards that lie face down, turning two at a time.

    Args:
        num_envs: N.
        decks: number of decks on the table.
        values: number of values that a card can have, COLORS or RANKS; two cards match if their values are equal. A card that
            lies face down is observed as the code `values`.
    """

    obs_requires_prev_action = True
    mutable = ("table", "shown", "held", "pairs", "steps")

    def __init__(self, num_envs: int, decks: int, values: int) -> None:
        n = DECK * decks
        super().__init__(num_envs, spaces.MultiDiscrete([values + 1] * n), spaces.Discrete(n))
        # steps that a player with perfect memory needs on average, rounded up
        self.max_steps = ceil(2 * n - n / (2 * n - 1))
        self.face_down = values
        self._sorted = np.arange(n) % COLORS if values == COLORS else np.arange(n) // SUITS % RANKS
        self.table = np.zeros((num_envs, n), np.int64)  # values of the cards
        self.shown = np.zeros((num_envs, n), np.int64)  # values of matched cards, which stay visible
        self.seen = np.zeros((num_envs, n), np.int64)  # values that are visible now
        self.held = np.zeros(num_envs, np.int64)  # position of the card turned first, -1 if none is
        self.pairs = np.zeros(num_envs, np.int64)
        self.steps = np.zeros(num_envs, np.int64)

    def _begin(self, rows: np.ndarray) -> None:
        self.shown[rows] = self.seen[rows] = self.face_down
        self.held[rows] = -1
        self.pairs[rows] = self.steps[rows] = 0
        self.table[rows] = self._sorted
        for i in rows:
            self._generators[i].shuffle(self.table[i])

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = self._all
        second = self.held >= 0
        other = np.where(second, self.held, actions)
        card, other_card = self.table[rows, actions], self.table[rows, other]
        known = self.shown[rows, actions] != self.face_down  # turning a matched card wastes the turn
        match = second & (actions != other) & (card == other_card) & ~known
        wasted = known | (second & ~match)

        self.seen = self.shown.copy()
        self.seen[rows, actions] = card
        self.seen[rows, other] = other_card
        matched = np.flatnonzero(match)
        self.shown[matched] = self.seen[matched]
        self.held = np.where(second | known, -1, actions)
        self.pairs += match
        self.steps += 1

        pairs = self.table.shape[1] // 2
        turned = 1 + second
        reward = np.where(match, 1 / pairs, np.where(wasted, turned * (-1 / self.max_steps), 0.0))
        return reward, self.pairs == pairs, self.steps >= self.max_steps

    def _observe(self) -> np.ndarray:
        return self.seen.copy()


TASKS: dict[str, Callable[[int], BatchedTask]] = {
    "popgym-AutoencodeEasy-v0": partial(Autoencode, decks=1),
    "popgym-AutoencodeMedium-v0": partial(Autoencode, decks=2),
    "popgym-AutoencodeHard-v0": partial(Autoencode, decks=3),
    "popgym-BattleshipEasy-v0": partial(Battleship, board=8),
    "popgym-BattleshipMedium-v0": partial(Battleship, board=10),
    "popgym-BattleshipHard-v0": partial(Battleship, board=12),
    "popgym-ConcentrationEasy-v0": partial(Concentration, decks=1, values=COLORS),
    "popgym-ConcentrationMedium-v0": partial(Concentration, decks=2, values=COLORS),
    "popgym-ConcentrationHard-v0": partial(Concentration, decks=1, values=RANKS),
    "popgym-RepeatPreviousEasy-v0": partial(RepeatPrevious, decks=1, k=4),
    "popgym-RepeatPreviousMedium-v0": partial(RepeatPrevious, decks=2, k=32),
    "popgym-RepeatPreviousHard-v0": partial(RepeatPrevious, decks=3, k=64),
}

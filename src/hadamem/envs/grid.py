"""Key-to-Door and Visual Match: the first observations decide the last reward, and apples in between are a distraction.

After Hung et al. (2019, arXiv 1810.06721), with the numbers of Ni et al. (2022 and 2023, arXiv 2110.05038 and 2307.03864;
variant "original") and of the code of the SHM paper (variant "shm").
"""

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from .batched import FixedLength, require_positive, settings
from .drawing import enlarge

ROWS, COLUMNS, MARGIN = 7, 11, 2  # size of a board, and width of the border around it that the view may show
MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])  # north, south, west, east, as (row, column)
FLOOR, WALL, OUTSIDE, PLAYER, KEY, DOOR, APPLE, INDICATOR, RED, GREEN, BLUE = range(11)
PALETTE = np.array(
    [
        (204, 204, 204), (25, 25, 25), (204, 204, 204), (228, 148, 109), (159, 81, 44), (134, 206, 235), (140, 178, 0),
        (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255),
    ],
    np.uint8,
)  # fmt: skip
SOLID = np.isin(np.arange(len(PALETTE)), (WALL, OUTSIDE, INDICATOR))
NEVER = np.iinfo(np.int64).max // 2


def board(*rows: str) -> np.ndarray:
    """A board with its margin, from text: # wall, d door, a apple, 0 1 2 coloured cells, blank floor."""
    codes = {" ": FLOOR, "#": WALL, "d": DOOR, "a": APPLE, "0": RED, "1": GREEN, "2": BLUE}
    return np.pad([[codes[cell] for cell in row] for row in rows], MARGIN, constant_values=OUTSIDE)


ORCHARD = board(  # an apple in each place where apples may grow
    "###########",
    "#a a a a a#",
    "# a a a a #",
    "#a a a a a#",
    "# a a a a #",
    "#a a   a a#",
    "###########",
)
TREES = np.argwhere(ORCHARD == APPLE)


class Chapters(FixedLength):
    """Three boards one after the other: explore, be distracted by apples, earn the final reward.

    Actions: north, south, west, east. Observation: the 5 x 5 cells around the player, a pixel each, (3, 5, 5) uint8. The last
    action of a chapter still takes effect, but its observation is the first view of the next chapter. In each episode, apples
    grow on `num_apples` random places of the second board; an apple that was taken is back `respawn` + 1 steps later. Success:
    the final reward was earned.
    """

    mutable: tuple[str, ...] = ("clock", "boards", "player", "trees", "taken", "success")

    def __init__(
        self,
        num_envs: int,
        rules: Any,
        apple_reward: float,
        num_apples: int,
        respawn: int,
        render_mode: str | None,
    ) -> None:
        lengths = rules.explore_length, rules.distractor_length, rules.reward_length
        require_positive(explore_length=lengths[0], distractor_length=lengths[1], reward_length=lengths[2])
        if not 0 <= num_apples <= len(TREES):
            raise ValueError(f"num_apples is {num_apples}; there is room for 0 to {len(TREES)}")
        space = spaces.Box(0, 255, (3, 5, 5), np.uint8)
        super().__init__(num_envs, sum(lengths), space, spaces.Discrete(len(MOVES)), render_mode)
        self.begins = (0, lengths[0], lengths[0] + lengths[1], self.max_steps)  # steps made before each chapter
        self.final_reward, self.apple_reward = rules.final_reward, apple_reward
        self.num_apples, self.respawn = num_apples, respawn
        self.boards = np.zeros((num_envs, *ORCHARD.shape), np.int64)
        self.player = np.zeros((num_envs, 2), np.int64)  # cell of the board with its margin
        self.trees = np.zeros((num_envs, num_apples, 2), np.int64)
        self.taken = np.zeros((num_envs, *ORCHARD.shape), np.int64)  # step of the chapter in which an apple was taken
        self.success = np.zeros(num_envs, np.bool_)

    def _draw(self) -> None:
        self.success[:] = False
        for i, generator in enumerate(self._generators):
            self.trees[i] = TREES[generator.permutation(len(TREES))[: self.num_apples]]
        self._furnish(0)

    def _move(self, actions: np.ndarray) -> np.ndarray:
        chapter = self._chapter(self.clock)
        target = self.player + MOVES[actions]
        cell = self.boards[self._all, *target.T]
        blocked = SOLID[cell] | self._blocked(cell, chapter)
        self.player = np.where(blocked[:, None], self.player, target)
        reward = self._pick(self.clock + 1 - self.begins[1]) if chapter == 1 else self._visit(chapter)
        following = self._chapter(self.clock + 1)
        if chapter < following < 3:
            if following == 1:
                self._plant()
            else:
                self._furnish(following)
        return reward

    def _chapter(self, steps: int) -> int:
        return sum(steps >= begin for begin in self.begins[1:])

    def _here(self) -> np.ndarray:
        return self.boards[self._all, *self.player.T]

    def _set_here(self, rows: np.ndarray, code: int) -> None:
        self.boards[rows, *self.player[rows].T] = code

    def _plant(self) -> None:
        self.boards[:] = np.where(ORCHARD == APPLE, FLOOR, ORCHARD)
        self.boards[self._all[:, None], self.trees[..., 0], self.trees[..., 1]] = APPLE
        self.player[:] = np.array([5, 5]) + MARGIN
        self.taken[:] = NEVER

    def _pick(self, step: int) -> np.ndarray:
        """Take the apples where the players are; then let apples grow again that were taken long enough ago."""
        picked = self._here() == APPLE
        rows = np.flatnonzero(picked)
        self._set_here(rows, FLOOR)
        self.taken[rows, *self.player[rows].T] = step
        grown = step > self.taken + self.respawn
        self.boards[grown], self.taken[grown] = APPLE, NEVER
        return self.apple_reward * picked

    @abstractmethod
    def _furnish(self, chapter: int) -> None:
        """Set the boards and players of the first (0) or last (2) chapter."""

    @abstractmethod
    def _blocked(self, cell: np.ndarray, chapter: int) -> np.ndarray | bool:
        """Whether the cells (N,) that the players want to enter are closed; the caller handles walls."""

    @abstractmethod
    def _visit(self, chapter: int) -> np.ndarray:
        """Apply the effects of the cells that the players are on, in the first or last chapter; returns the rewards (N,)."""

    def _cells(self) -> np.ndarray:
        """The boards with the players on them; in the last chapter, a cell that is not floor hides the player on it."""
        cells = self.boards.copy()
        above = (self._here() != FLOOR) & (self.clock >= self.begins[2])
        cells[self._all, *self.player.T] = np.where(above, self._here(), PLAYER)
        return cells

    def _observe(self) -> np.ndarray:
        window = np.arange(-MARGIN, MARGIN + 1)
        rows, columns = self.player[:, :1] + window, self.player[:, 1:] + window
        cells = self._cells()[self._all[:, None, None], rows[:, :, None], columns[:, None, :]]
        return np.ascontiguousarray(PALETTE[cells].transpose(0, 3, 1, 2))

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self.success.copy()}

    def _picture(self, i: int) -> np.ndarray:
        pixels = PALETTE[self._cells()[i]]
        seen = (abs(np.indices(ORCHARD.shape) - self.player[i][:, None, None]) <= MARGIN).all(0)
        pixels[~seen] //= 2  # cells that the agent does not see are darker
        return enlarge(pixels[MARGIN:-MARGIN, MARGIN:-MARGIN], 24)


class KeyToDoor(Chapters):
    """Fetch a key, spend a time among apples, then open the door with it, for good.

    When the key is taken, a white pixel shows at the top wall for one step. Nothing else shows whether the player has the key.

    Args:
        num_envs: N.
        variant: paper whose numbers are the defaults of the next four arguments; "original" is Ni et al. of 2022.
        explore_length: steps of the first chapter.
        distractor_length: steps of the second chapter.
        reward_length: steps of the third chapter.
        final_reward: reward for entering the door with the key.
        apple_reward: reward for an apple.
        num_apples: number of places where apples grow, at most 22.
        respawn: steps that a place stays empty after its apple was taken.
        render_mode: None or "rgb_array".
    """

    variants = {  # noqa: RUF012
        "shm": {"explore_length": 10, "distractor_length": 100, "reward_length": 3, "final_reward": 10.0},
        "original": {"explore_length": 15, "distractor_length": 60, "reward_length": 10, "final_reward": 5.0},
    }
    mutable = (*Chapters.mutable, "has_key")
    room = board(
        "  #######  ",
        "  #     #  ",
        "  #     #  ",
        "  ##   ##  ",
        "  #     #  ",
        "  #     #  ",
        "  #######  ",
    )
    exit = board(
        "           ",
        "   ##d##   ",
        "   #   #   ",
        "   #   #   ",
        "   #   #   ",
        "   #####   ",
        "           ",
    )

    def __init__(
        self,
        num_envs: int,
        variant: Literal["shm", "original"] = "shm",
        explore_length: int | None = None,
        distractor_length: int | None = None,
        reward_length: int | None = None,
        final_reward: float | None = None,
        apple_reward: float = 1.0,
        num_apples: int = 10,
        respawn: int = 20,
        render_mode: str | None = None,
    ) -> None:
        rules = settings(
            self.variants,
            variant,
            explore_length=explore_length,
            distractor_length=distractor_length,
            reward_length=reward_length,
            final_reward=final_reward,
        )
        super().__init__(num_envs, rules, apple_reward, num_apples, respawn, render_mode)
        self.has_key = np.zeros(num_envs, np.bool_)

    def _furnish(self, chapter: int) -> None:
        if chapter == 2:
            self.boards[:] = self.exit
            self.player[:] = np.array([3, 5]) + MARGIN
            return
        self.boards[:] = self.room
        self.has_key[:] = False
        for i, generator in enumerate(self._generators):
            key, start = generator.integers((1, 3), (3, 8)), generator.integers((4, 3), (6, 8))
            self.boards[i, *(key + MARGIN)] = KEY
            self.player[i] = start + MARGIN

    def _blocked(self, cell: np.ndarray, chapter: int) -> np.ndarray:
        return (cell == DOOR) & ~self.has_key

    def _visit(self, chapter: int) -> np.ndarray:
        if chapter == 0:
            found = self._here() == KEY
            self.has_key |= found
            self._set_here(np.flatnonzero(found), FLOOR)
            self.boards[:, MARGIN, 5 + MARGIN] = np.where(found, INDICATOR, WALL)
            return np.zeros(self.num_envs)
        opened = (self._here() == DOOR) & ~self.success  # it stays open, and pays once
        self.success |= opened
        return self.final_reward * opened


class VisualMatch(Chapters):
    """See a colour, spend a time among apples, then go to the cell of that colour; only the first coloured cell counts.

    Args:
        num_envs: N.
        variant: paper whose numbers are the defaults of the next four arguments; "original" is Ni et al. of 2023.
        explore_length: steps of the first chapter, in which the player cannot move.
        distractor_length: steps of the second chapter.
        reward_length: steps of the third chapter.
        final_reward: reward for the right cell.
        colours: "fixed": in the last chapter, red is left, green in the middle and blue right, in training and evaluation;
            "per_episode": each episode has its own order, so that the agent has to look. (The released code draws one order for
            each environment object, without a seed.)
        apple_reward: reward for an apple.
        num_apples: number of places where apples grow, at most 22.
        respawn: steps that a place stays empty after its apple was taken.
        render_mode: None or "rgb_array".
    """

    variants = {  # noqa: RUF012
        "shm": {"explore_length": 15, "distractor_length": 100, "reward_length": 10, "final_reward": 10.0},
        "original": {"explore_length": 15, "distractor_length": 60, "reward_length": 15, "final_reward": 5.0},
    }
    mutable = (*Chapters.mutable, "target", "order")
    cell = board(
        "           ",
        "    ###    ",
        "    # #    ",
        "    ###    ",
        "           ",
        "           ",
        "           ",
    )
    hall = board(
        "###########",
        "# 0  1  2 #",
        "#         #",
        "#         #",
        "####   ####",
        "   #   #   ",
        "   #####   ",
    )

    def __init__(
        self,
        num_envs: int,
        variant: Literal["shm", "original"] = "shm",
        explore_length: int | None = None,
        distractor_length: int | None = None,
        reward_length: int | None = None,
        final_reward: float | None = None,
        colours: Literal["fixed", "per_episode"] = "fixed",
        apple_reward: float = 1.0,
        num_apples: int = 10,
        respawn: int = 20,
        render_mode: str | None = None,
    ) -> None:
        rules = settings(
            self.variants,
            variant,
            explore_length=explore_length,
            distractor_length=distractor_length,
            reward_length=reward_length,
            final_reward=final_reward,
        )
        if colours not in ("fixed", "per_episode"):
            raise ValueError(f"colours is {colours!r}; it must be fixed or per_episode")
        super().__init__(num_envs, rules, apple_reward, num_apples, respawn, render_mode)
        self.colours = colours
        self.target = np.zeros(num_envs, np.int64)
        self.order = np.tile(np.array([RED, GREEN, BLUE]), (num_envs, 1))  # colours from left to right

    def _furnish(self, chapter: int) -> None:
        if chapter == 2:
            self.boards[:] = self.hall
            self.boards[:, 1 + MARGIN, [2 + MARGIN, 5 + MARGIN, 8 + MARGIN]] = self.order
            self.player[:] = np.array([5, 5]) + MARGIN
            return
        self.boards[:] = self.cell
        self.player[:] = np.array([2, 5]) + MARGIN
        walls = np.argwhere(self.cell == WALL)
        for i, generator in enumerate(self._generators):
            self.target[i] = generator.integers(RED, BLUE + 1)
            self.boards[i, *walls[generator.integers(len(walls))]] = self.target[i]
            if self.colours == "per_episode":
                self.order[i] = generator.permutation((RED, GREEN, BLUE))

    def _blocked(self, cell: np.ndarray, chapter: int) -> bool:
        return chapter == 0

    def _visit(self, chapter: int) -> np.ndarray:
        chosen = self._here()
        if chapter == 2:
            self.boards[(self.boards >= RED) & (chosen >= RED)[:, None, None]] = FLOOR
        right = (chosen == self.target) & (chapter == 2)
        self.success |= right
        return self.final_reward * right

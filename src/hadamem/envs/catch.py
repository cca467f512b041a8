"""Delayed Catch (Raposo et al. 2021, arXiv 2102.12425; numbers of Ni et al. 2022): many catches, rewarded at the last step."""

import numpy as np
from gymnasium import spaces

from .batched import FixedLength, require_positive
from .drawing import DARK, LIGHT, ORANGE, RED, enlarge

SIZE = 7


class DelayedCatch(FixedLength):
    """Move a basket under fruits that fall one after the other; the number of catches is the reward of the last step.

    Actions: basket left, stay, right. Observation (49,): the 7 x 7 grid, -1 for the fruit, 1 for the basket in the lowest
    row, which hides a fruit in the same cell. A fruit falls for six steps; the step after that begins the next run, whatever
    the action. Success: every fruit was caught.

    Args:
        num_envs: N.
        runs: number of fruits in an episode.
        render_mode: None or "rgb_array".
    """

    mutable = ("clock", "fruit", "basket", "caught")

    def __init__(self, num_envs: int, runs: int = 10, render_mode: str | None = None) -> None:
        require_positive(runs=runs)
        space = spaces.Box(-1, 1, (SIZE * SIZE,), np.float32)
        super().__init__(num_envs, SIZE * runs - 1, space, spaces.Discrete(3), render_mode)
        self.runs = runs
        self.fruit = np.zeros(num_envs, np.int64)  # column
        self.basket = np.zeros(num_envs, np.int64)
        self.caught = np.zeros(num_envs, np.int64)

    def _draw(self) -> None:
        self.caught[:] = 0
        self._spawn()

    def _spawn(self) -> None:
        for i, generator in enumerate(self._generators):
            self.fruit[i], self.basket[i] = generator.integers((0, 1), (6, 5))

    def _move(self, actions: np.ndarray) -> np.ndarray:
        row = (self.clock + 1) % SIZE
        if row == 0:
            self._spawn()
        else:
            self.basket[:] = np.clip(self.basket + actions - 1, 0, SIZE - 1)
        if row == SIZE - 1:
            self.caught += self.fruit == self.basket
        return self.caught * float(self.clock + 1 == self.max_steps)

    def _observe(self) -> np.ndarray:
        grid = np.zeros((self.num_envs, SIZE, SIZE), np.float32)
        grid[self._all, self.clock % SIZE, self.fruit] = -1
        grid[self._all, -1, self.basket] = 1
        return grid.reshape(self.num_envs, -1)

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self.caught == self.runs}

    def _picture(self, i: int) -> np.ndarray:
        grid = self._observe()[i].reshape(SIZE, SIZE)
        cells = np.full((SIZE, SIZE, 3), LIGHT, np.uint8)
        cells[grid == -1], cells[grid == 1] = RED, ORANGE
        return enlarge(np.pad(cells, ((1, 1), (1, 1), (0, 0)), constant_values=DARK[0]), 24)

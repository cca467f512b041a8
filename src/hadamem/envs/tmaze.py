"""The T-maze of Ni et al. (2023, arXiv 2307.03864): a sign at one end of a corridor tells where to turn at the other."""

import numpy as np
from gymnasium import spaces

from .batched import FixedLength, require_positive
from .drawing import BLUE, DARK, GREEN, LIGHT, ORANGE, RED, enlarge

MOVES = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])  # right, up, left, down, as (x, y)


class TMaze(FixedLength):
    """Walk down the corridor without a pause and turn to the side that the oracle showed.

    The oracle is at x = 0, the start at x = `oracle_length`, the junction `corridor_length` further, the two goals above
    (y = 1) and below (y = -1) it. Observations are (0, side) at the first sight of the oracle, (0, 0) in the corridor, and
    (1, y) from the junction on. An episode takes as many steps as the best player needs. Its last step pays
    `goal_reward` at the right goal; every other step pays `penalty` if the player is behind the best player.

    Args:
        num_envs: N.
        corridor_length: L, steps between start and junction.
        oracle_length: steps between oracle and start. 0: passive, the oracle is seen at once; 1: active, the player has to walk
            back to it.
        goal_reward: reward for the right goal at the last step.
        penalty: reward (negative) of a step on which the player is behind the best player; None: -1 / L.
        distract_reward: reward of every step, except the last, that ends at the oracle.
        render_mode: None or "rgb_array".
    """

    obs_requires_prev_action = True
    mutable = ("clock", "side", "x", "y", "told")

    def __init__(
        self,
        num_envs: int,
        corridor_length: int = 50,
        oracle_length: int = 0,
        goal_reward: float = 1.0,
        penalty: float | None = None,
        distract_reward: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        require_positive(corridor_length=corridor_length, oracle_length=oracle_length + 1)
        max_steps = corridor_length + 2 * oracle_length + 1
        space = spaces.Box(-1, 1, (2,), np.float32)
        super().__init__(num_envs, max_steps, space, spaces.Discrete(len(MOVES)), render_mode)
        self.oracle_length = oracle_length
        self.junction = oracle_length + corridor_length
        self.goal_reward = goal_reward
        self.penalty = -1 / corridor_length if penalty is None else penalty
        self.distract_reward = distract_reward
        self.side = np.zeros(num_envs, np.int64)
        self.x = np.zeros(num_envs, np.int64)
        self.y = np.zeros(num_envs, np.int64)
        self.told = np.zeros(num_envs, np.bool_)  # whether an earlier observation has shown the oracle's sign

    def _draw(self) -> None:
        self.side[:] = [2 * generator.integers(2) - 1 for generator in self._generators]
        self.x[:], self.y[:], self.told[:] = self.oracle_length, 0, False

    def _move(self, actions: np.ndarray) -> np.ndarray:
        self.told |= self.x == 0
        x, y = (self._now() + MOVES[actions]).T
        legal = (x >= 0) & (x <= self.junction) & ((y == 0) | ((x == self.junction) & (abs(y) == 1)))
        self.x, self.y = np.where(legal, x, self.x), np.where(legal, y, self.y)
        steps = self.clock + 1
        if steps == self.max_steps:
            return np.where(self.y == self.side, self.goal_reward, 0.0)
        lags = self.x < steps - self.oracle_length
        return np.where(lags, self.penalty, 0.0) + np.where(self.x == 0, self.distract_reward, 0.0)

    def _now(self) -> np.ndarray:
        return np.stack([self.x, self.y], axis=1)

    def _observe(self) -> np.ndarray:
        sign = np.where((self.x == 0) & ~self.told, self.side, 0)
        return np.stack([self.x == self.junction, self.y + sign], axis=1).astype(np.float32)

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self.y == self.side}

    def _picture(self, i: int) -> np.ndarray:
        cells = np.full((3, self.junction + 1, 3), DARK, np.uint8)
        cells[1] = LIGHT
        cells[1, 0] = BLUE
        cells[1 - self.side[i], -1], cells[1 + self.side[i], -1] = GREEN, RED
        cells[1 - self.y[i], self.x[i]] = ORANGE
        first = min(max(self.x[i] - 30, 0), max(self.junction - 59, 0))  # a window of at most 60 cells
        return enlarge(np.pad(cells[:, first : first + 60], ((1, 1), (1, 1), (0, 0))), 12)

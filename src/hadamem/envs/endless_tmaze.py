"""The endless T-maze of "Memory Retention Is Not Enough" (arXiv 2601.15086): each new sign makes the one before obsolete."""

from typing import Literal, get_args

import numpy as np
from gymnasium import spaces

from .batched import BatchedTask, require_positive
from .drawing import BLUE, DARK, GREEN, LIGHT, ORANGE, RED, enlarge

Lengths = Literal["fixed", "uniform"]
FORWARD, LEFT, RIGHT = range(3)


class EndlessTMaze(BatchedTask):
    """Walk down a corridor and turn to the side that its sign showed, into the next corridor, which has its own sign.

    Observation (3,): the position in the corridor divided by the longest one's length, and at position 0 whether the sign
    points left, and whether it points right. Actions: forward, left, right. A turn within a corridor costs `penalty` and leads
    nowhere. At the end of a corridor the right turn pays `goal_reward`, and any other action ends the episode. With corridors
    of random length the end cannot be seen: the best player tries the turn at every step and walks on when nothing has
    happened. Success: all corridors were passed. The episode is truncated after 6 (L + 1) steps times the number of corridors.

    Args:
        num_envs: N.
        corridor_length: L, the largest number of steps from a sign to the junction.
        num_corridors: number of corridors in an episode.
        lengths: "fixed" (always L), or "uniform" (drawn from 1 to L for each corridor).
        goal_reward: reward for a right turn.
        penalty: reward (negative) for a step that leads nowhere, and for a wrong turn.
        render_mode: None or "rgb_array".
    """

    mutable = ("steps", "corridor", "length", "x", "side")

    def __init__(
        self,
        num_envs: int,
        corridor_length: int = 10,
        num_corridors: int = 5,
        lengths: Lengths = "fixed",
        goal_reward: float = 1.0,
        penalty: float = -0.01,
        render_mode: str | None = None,
    ) -> None:
        require_positive(corridor_length=corridor_length, num_corridors=num_corridors)
        if lengths not in get_args(Lengths):
            raise ValueError(f"lengths is {lengths!r}; it must be one of {', '.join(get_args(Lengths))}")
        super().__init__(num_envs, spaces.Box(0, 1, (3,), np.float32), spaces.Discrete(3))
        self.longest, self.num_corridors, self.drawn = corridor_length, num_corridors, lengths == "uniform"
        self.goal_reward, self.penalty, self.render_mode = goal_reward, penalty, render_mode
        self.max_steps = 6 * (corridor_length + 1) * num_corridors
        self.steps, self.corridor, self.length, self.x, self.side = (np.zeros(num_envs, np.int64) for _ in range(5))

    def _begin(self, rows: np.ndarray) -> None:
        self.steps[rows], self.corridor[rows] = 0, 0
        self._enter(rows)

    def _enter(self, rows: np.ndarray) -> None:
        """Put the players of some environments at the beginning of a corridor."""
        self.x[rows] = 0
        for i in rows:
            self.side[i] = self._generators[i].integers(LEFT, RIGHT + 1)
            self.length[i] = self._generators[i].integers(1, self.longest + 1) if self.drawn else self.longest

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at_end = self.x == self.length
        walks, passes = ~at_end & (actions == FORWARD), at_end & (actions == self.side)
        self.x += walks
        self.corridor += passes
        self.steps += 1
        over = (at_end & ~passes) | (self.corridor == self.num_corridors)
        self._enter(np.flatnonzero(passes & ~over))
        reward = np.where(passes, self.goal_reward, np.where(walks, 0.0, self.penalty))
        return reward, over, ~over & (self.steps == self.max_steps)

    def _observe(self) -> np.ndarray:
        at_sign = self.x == 0
        parts = [self.x / self.longest, at_sign & (self.side == LEFT), at_sign & (self.side == RIGHT)]
        return np.stack(parts, axis=1).astype(np.float32)

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self.corridor == self.num_corridors}

    def _picture(self, i: int) -> np.ndarray:
        """The corridor from left to right, with the player's left side up. Below it, a light for every corridor passed."""
        cells = np.full((4, max(self.longest + 1, self.num_corridors), 3), DARK, np.uint8)
        cells[1, : self.length[i] + 1] = LIGHT
        cells[1, 0] = BLUE
        left = self.side[i] == LEFT
        cells[0, self.length[i]], cells[2, self.length[i]] = (GREEN, RED) if left else (RED, GREEN)
        cells[1, self.x[i]] = ORANGE
        cells[3, : self.corridor[i]] = GREEN
        return enlarge(np.pad(cells, ((1, 1), (1, 1), (0, 0))), 12)

"""PocMemory, the proof-of-concept memory environment of github.com/MarcoMeter/recurrent-ppo-truncated-bptt."""

import numpy as np
from gymnasium import spaces

from .batched import BatchedTask, require_positive
from .drawing import DARK, GREEN, LIGHT, ORANGE, RED, enlarge


class PocMemory(BatchedTask):
    """Walk on a line from -1 to 1 to the end that was shown as the good one at the beginning of the episode.

    Actions: left, right. Observation (3,): left goal, position, right goal; a goal is 1 if it is good and -1 if it is bad, and
    both are 0 once they are hidden. They are shown in the first observation and in those of the next `show_steps` steps, in
    which the player cannot move if it is frozen. The good end pays 1 + (n + 1) `time_penalty`, where n is the number of steps
    from the middle to an end, the bad end pays the negative of that, and every other step in which the player can move costs
    `time_penalty`. An episode ends at either end, or is truncated after `max_steps`. Success: the good end was reached.

    The defaults are the published environment as its authors train on it. Their later code sets the limit of 32 steps.

    Args:
        num_envs: N.
        step_size: length of a step, 1 / n for a whole number n.
        start_anywhere: start anywhere between the ends, not only within 0.4 (at least two steps) of the middle.
        freeze: the player cannot move during the first `show_steps` steps.
        show_steps: steps after which the goals are hidden.
        time_penalty: cost of a step.
        max_steps: steps in an episode at most.
        render_mode: None or "rgb_array".

    Raises:
        ValueError: a number is out of range.
    """

    mutable = ("clock", "position", "good_end")

    def __init__(
        self,
        num_envs: int,
        step_size: float = 0.2,
        start_anywhere: bool = False,
        freeze: bool = True,
        show_steps: int = 2,
        time_penalty: float = 0.1,
        max_steps: int = 32,
        render_mode: str | None = None,
    ) -> None:
        require_positive(step_size=step_size, show_steps=show_steps, max_steps=max_steps)
        self.end = round(1 / step_size)  # positions are counted in steps from the middle
        if self.end < 1 or abs(self.end * step_size - 1) > 1e-6:
            raise ValueError(f"step_size is {step_size}; it must be 1 / n for a whole number n, such as 0.2 or 0.05")
        super().__init__(num_envs, spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2))
        near_middle = max(2, 2 * self.end // 5)
        self.start_reach = self.end - 1 if start_anywhere else min(near_middle, self.end - 1)
        self.freeze, self.show_steps, self.time_penalty, self.max_steps = freeze, show_steps, time_penalty, max_steps
        self.render_mode = render_mode
        self.clock = np.zeros(num_envs, np.int64)
        self.position = np.zeros(num_envs, np.int64)
        self.good_end = np.zeros(num_envs, np.int64)  # -1 left, 1 right

    def _begin(self, rows: np.ndarray) -> None:
        for i in rows:
            position, side = self._generators[i].integers((-self.start_reach, 0), (self.start_reach + 1, 2))
            self.position[i], self.good_end[i] = position, 2 * side - 1
        self.clock[rows] = 0

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        frozen = self.freeze & (self.clock < self.show_steps)
        self.position += np.where(frozen, 0, np.where(actions == 1, 1, -1))
        self.clock += 1
        terminated = abs(self.position) == self.end
        truncated = ~terminated & (self.clock >= self.max_steps)
        prize = 1 + (self.end + 1) * self.time_penalty
        on_the_way = np.where(frozen, 0.0, -self.time_penalty)
        reward = np.where(terminated, np.where(self._success(), prize, -prize), on_the_way)
        return reward, terminated, truncated

    def _success(self) -> np.ndarray:
        return self.position == self.good_end * self.end

    def _observe(self) -> np.ndarray:
        right = np.where(self.clock <= self.show_steps, self.good_end, 0)
        return np.stack([-right, self.position / self.end, right], axis=1).astype(np.float32)

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._success()}

    def _picture(self, i: int) -> np.ndarray:
        cells = np.full((1, 2 * self.end + 1, 3), LIGHT, np.uint8)
        cells[0, [0, -1]] = (GREEN, RED) if self.good_end[i] < 0 else (RED, GREEN)
        cells[0, self.end + self.position[i]] = ORANGE
        return enlarge(np.pad(cells, ((1, 1), (1, 1), (0, 0)), constant_values=DARK[0]), 24)

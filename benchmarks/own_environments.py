"""An environment of a kind that no maintained package has, and a turn-based game from the view of one player.

They are used by `environments.py`; their ids are "own_environments:Throw" and "own_environments:ConnectFour".
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Throw(gymnasium.Env):
    """Hybrid actions: run a distance, or leap with a height and a distance, to come near a goal that only the first observation
    shows."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    observation_space = spaces.Dict({"goal": spaces.Box(-1, 1, (1,), np.float32), "place": spaces.Box(-9, 9, (1,), np.float32)})
    action_space = spaces.Tuple(
        (
            spaces.Discrete(2),
            spaces.Dict({"run": spaces.Box(-1, 1, (1,), np.float32), "leap": spaces.Box(-1, 1, (2,), np.float32)}),
        )
    )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self.goal, self.place, self.t = self.np_random.uniform(-1, 1), 0.0, 0
        return self._observe(), {}

    def step(
        self, action: tuple[int, dict[str, np.ndarray]]
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        which, how = action
        height, distance = how["leap"]
        self.place = float(np.clip(self.place + (how["run"][0] / 4 if which == 0 else distance * (1 + height) / 2), -9, 9))
        self.t += 1
        return self._observe(), -abs(self.goal - self.place), False, self.t == 20, {}

    def _observe(self) -> dict[str, np.ndarray]:
        goal = self.goal if self.t == 0 else 0.0
        return {"goal": np.array([goal], np.float32), "place": np.array([self.place], np.float32)}


class ConnectFour(gymnasium.Env):
    """PettingZoo's Connect Four for one player, against random legal moves; the mask of legal moves is in the observation."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode: str | None = None) -> None:
        from pettingzoo.classic import connect_four_v3

        self.game = connect_four_v3.env(render_mode=render_mode)
        self.render_mode = render_mode
        self.observation_space = self.game.observation_space("player_0")
        self.action_space = self.game.action_space("player_0")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.game.reset(seed=seed)
        return self.game.observe("player_0"), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.game.step(int(action))
        paid = float(self.game.rewards["player_0"])
        if not any(self.game.terminations.values()):
            legal = self.game.observe("player_1")["action_mask"]
            self.game.step(int(self.np_random.choice(np.flatnonzero(legal))))
            paid = float(self.game.rewards["player_0"])
        return self.game.observe("player_0"), paid, any(self.game.terminations.values()), False, {"success": paid > 0}

    def render(self) -> np.ndarray | None:
        return self.game.render()

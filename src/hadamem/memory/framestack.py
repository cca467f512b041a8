"""A memory of the last n inputs, side by side."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..ops.episodes import episode_steps
from .base import Memory, State


class FrameStack(Memory):
    """Frame stack (Mnih et al. 2015, doi:10.1038/nature14236): the last n inputs, made small, into an MLP.

        z_t = W_c x_t                                                   H / n features
        y_t = relu(W_2 relu(W_1 [z_t, z_{t-1}, ..., z_{t-n+1}]))        zeros for steps before the episode

    POPGym's frame stack has LeakyReLU(0.01) instead of relu, and a bias in W_c.

    Args:
        input_size: D, features of x.
        output_size: features of the output.
        hidden_size: H, size of the hidden layer. Default: output_size.
        frames: n, the number of inputs.

    State: "frames" (B, n - 1, D), the previous inputs, oldest first.
    """

    paper: ClassVar[str] = "Mnih et al. 2015, doi:10.1038/nature14236"

    def __init__(self, input_size: int, output_size: int, hidden_size: int | None = None, *, frames: int = 4) -> None:
        super().__init__(input_size, output_size)
        if frames < 1:
            raise ValueError(f"frames is {frames}; it must be at least 1")
        self.frames, self.hidden_size = frames, output_size if hidden_size is None else hidden_size
        small = -(-self.hidden_size // frames)
        self.compress = nn.Linear(input_size, small, bias=False)
        self.layers = nn.Sequential(
            nn.Linear(small * frames, self.hidden_size), nn.ReLU(), nn.Linear(self.hidden_size, output_size), nn.ReLU()
        )

    def initial_state(self, batch_size: int) -> State:
        """A state of zeros."""
        return {"frames": self._zeros(batch_size, self.frames - 1, self.input_size)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        n, T = self.frames, x.shape[1]
        age = torch.arange(n - 1, -1, -1, device=x.device)
        step = episode_steps(start, age[:1])  # frames of earlier episodes are zero already in the state
        seen = age <= step[..., None]
        x = torch.cat([state["frames"], x], dim=1)
        z = self.compress(x).unfold(1, n, 1)  # (B, T, H / n, n)
        y = self.layers(torch.where(seen[:, :, None], z, 0).flatten(2))
        keep = age[1:] <= step[:, -1:]
        return y, {"frames": torch.where(keep[..., None], x[:, T:], 0)}

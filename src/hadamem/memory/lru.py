"""Linear recurrent unit (arXiv 2303.06349)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .base import widened
from .diagonal import Diagonal


class LRU(Diagonal):
    """Linear recurrent unit (Orvieto et al., 2023, arXiv 2303.06349, Section 3).

        lambda = exp(-exp(nu) + i exp(phi))                 inside the unit circle, whatever is learned
        h_t = lambda * h_{t-1} + exp(gamma) * (B x_t)       h, lambda, B complex
        y_t = Re(C h_t) + D x_t

    lambda is initialised uniformly on a ring, r_min <= |lambda| <= r_max, at angles up to max_phase; exp(gamma) starts at
    sqrt(1 - |lambda|^2), which keeps h as large as its input however slowly it decays. Except for resets, the layer is linear
    in x: a nonlinearity has to come from the layers after it. D is a full matrix; the paper's D is diagonal, with as many
    output as input features.

    Args:
        input_size: features of x.
        output_size: features of the output.
        state_size: N, complex numbers in h.
        r_min: inner radius of the ring.
        r_max: outer radius; a number at radius r decays to a half in about log(2) / (1 - r) steps.
        max_phase: the largest angle, in radians.
        backend: backend of `hadamem.ops.linear_recurrence`.

    State: "hidden" (B, state_size), complex.
    """

    paper = "Orvieto et al. 2023, arXiv:2303.06349"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        state_size: int = 64,
        r_min: float = 0.9,
        r_max: float = 0.999,
        max_phase: float = 2 * math.pi,
        backend: str = "auto",
    ) -> None:
        super().__init__(input_size, output_size, state_size, backend)
        if not 0 <= r_min < r_max < 1:
            raise ValueError(f"r_min is {r_min} and r_max {r_max}; they must be 0 <= r_min < r_max < 1")
        if max_phase <= 0:
            raise ValueError(f"max_phase is {max_phase}; it must be greater than 0")
        square = torch.rand(self.state_size) * (r_max**2 - r_min**2) + r_min**2  # |lambda|^2: uniform by area
        self.nu = nn.Parameter((-0.5 * square.log()).log())
        self.phi = nn.Parameter((max_phase * torch.rand(self.state_size)).log())
        self.gamma = nn.Parameter(0.5 * torch.log1p(-square))

    def decay_and_gain(self) -> tuple[Tensor, Tensor]:
        """See Diagonal."""
        nu, phi, gamma = widened(self.nu, self.phi, self.gamma)
        return torch.polar(torch.exp(-nu.exp()), phi.exp()), gamma.exp()

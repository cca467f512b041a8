"""Simplified structured state space layer (arXiv 2208.04933)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .base import widened
from .diagonal import Diagonal


class S5(Diagonal):
    """Simplified structured state space sequence layer, S5 (Smith et al., 2023, arXiv 2208.04933, Section 3).

        h'(t) = Lambda h(t) + B x(t)                                a continuous system, held between steps (ZOH):
        h_t = exp(Lambda dt) * h_{t-1} + (exp(Lambda dt) - 1) / Lambda * (B x_t)
        y_t = 2 Re(C h_t) + D x_t

    Lambda is initialised to the eigenvalues of HiPPO-N, the normal part of the matrix that projects the past on Legendre
    polynomials; of each conjugate pair only one is kept. B and C start random in the coordinates of HiPPO-N, and mix all
    features (MIMO). A step size dt is learned for every number of h. Re(Lambda) = -exp(.) stays negative. Except for resets,
    the layer is linear in x: a nonlinearity has to come from the layers after it.

    Differences of the released layer: its D is diagonal, here D is a full matrix (input_size and output_size may differ).
    Before the change to the basis of eigenvectors, its B starts with a standard deviation of 1 / sqrt(2 N), here with
    1 / sqrt(input_size); and its C starts complex, with 1 / sqrt(2 N) for either part, here real, with 1 / sqrt(2 N).

    Args:
        input_size: features of x.
        output_size: features of the output.
        state_size: N, number of complex numbers in h, one for each of N conjugate pairs.
        dt_min: the smallest initial step size, in units of the continuous system's time.
        dt_max: the largest initial step size; log dt is uniform between the two.
        backend: backend of `hadamem.ops.linear_recurrence`.

    State: "hidden" (B, state_size), complex.
    """

    paper = "Smith et al. 2023, arXiv:2208.04933"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        state_size: int = 64,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        backend: str = "auto",
    ) -> None:
        super().__init__(input_size, output_size, state_size, backend)
        if not 0 < dt_min < dt_max:
            raise ValueError(f"dt_min is {dt_min} and dt_max {dt_max}; they must be 0 < dt_min < dt_max")
        N = self.state_size
        eigenvalues, vectors = hippo_normal(2 * N)
        dtype = self.write.dtype
        self.log_rate = nn.Parameter(torch.log(-eigenvalues.real).to(dtype))
        self.frequency = nn.Parameter(eigenvalues.imag.to(dtype, copy=True))
        self.log_dt = nn.Parameter(torch.empty(N).uniform_(math.log(dt_min), math.log(dt_max)))
        B = torch.randn(2 * N, input_size, dtype=torch.float64) / math.sqrt(input_size)
        C = torch.randn(output_size, 2 * N, dtype=torch.float64) / math.sqrt(2 * N)
        C = 2 * C.to(vectors.dtype) @ vectors
        self.write.data = torch.view_as_real(vectors.mH @ B.to(vectors.dtype)).to(dtype)
        self.read.weight.data = torch.view_as_real(C.conj().resolve_conj()).flatten(-2).to(dtype)

    def decay_and_gain(self) -> tuple[Tensor, Tensor]:
        """See Diagonal."""
        log_rate, frequency, log_dt = widened(self.log_rate, self.frequency, self.log_dt)
        eigenvalue = torch.complex(-log_rate.exp(), frequency)
        decay = torch.exp(eigenvalue * log_dt.exp())
        return decay, (decay - 1) / eigenvalue


def hippo_normal(size: int) -> tuple[Tensor, Tensor]:
    """The eigenvalues with positive imaginary part, (size / 2,), and eigenvectors, (size, size / 2), of HiPPO-N (paper, B.1.1).

    HiPPO-LegS is a normal matrix minus a matrix of rank one; the normal matrix is -1/2 times the identity plus a skew-symmetric
    matrix.
    """
    root = torch.sqrt(torch.arange(size, dtype=torch.float64) + 0.5)
    product = torch.outer(root, root)
    skew = torch.triu(product, 1) - torch.tril(product, -1)
    imaginary, vectors = torch.linalg.eigh(-1j * skew)  # in ascending order, in pairs of opposite sign
    return torch.complex(torch.full_like(imaginary, -0.5), imaginary)[size // 2 :], vectors[:, size // 2 :]

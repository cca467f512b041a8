"""sLSTM's loop and its backward pass are held to the definition in float64: outputs, last state, every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hadamem.ops import reference, slstm


def make_inputs(B: int, T: int, N: int, d: int, reset: float = 0.2) -> list[Tensor]:
    """x, recurrent, start and a state from the middle of a sequence, in float64."""
    x, recurrent = 2 * torch.randn(B, T, N, 4, d).double(), torch.randn(N, d, 4 * d).double() / d**0.5
    state = torch.randn(B, 4, N, d).double()
    state[:, 2].exp_()
    return [x, recurrent, torch.rand(B, T) < reset, state]


def run(function: object, inputs: list[Tensor], exponential: bool) -> list[Tensor]:
    leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    h, last = function(*leaves, exponential)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, dtype=torch.float64, generator=generator) for x in (h, last)]
    loss = (h * weights[0]).sum() + (last * weights[1]).sum()
    return [h.detach(), last.detach(), *torch.autograd.grad(loss, [x for x in leaves if x.requires_grad])]


@pytest.mark.parametrize("exponential", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 17, 2, 5), (2, 40, 4, 3), (4, 1, 1, 8)])
@pytest.mark.parametrize("reset", [0.0, 0.2])
def test_equals_reference(shape: tuple[int, ...], exponential: bool, reset: float) -> None:
    inputs = make_inputs(*shape, reset=reset)
    want = run(reference.slstm, inputs, exponential)
    for got, expected in zip(run(slstm, inputs, exponential), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("exponential", [False, True])
def test_large_gates_neither_overflow_nor_vanish(exponential: bool) -> None:
    """exp(+-400) is beyond float32; the first h after a reset is sigmoid(o) tanh(z) whatever i is."""
    x, recurrent, start, state = (x.float() if x.is_floating_point() else x for x in make_inputs(2, 30, 1, 4))
    x[:, :, :, 2:] *= 200
    start[:, 0] = True
    x.requires_grad_()
    h, last = slstm(x, recurrent, start, state, exponential)
    gradient = torch.autograd.grad(h.square().sum(), x)[0]
    assert all(y.isfinite().all() for y in (h, last, gradient))
    torch.testing.assert_close(h[:, 0], torch.sigmoid(x[:, 0, :, 1]) * torch.tanh(x[:, 0, :, 0]))

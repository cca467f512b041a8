"""The fused CPU kernels of `causal_convolution` against its definition in torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hadamem.ops.convolution import causal_convolution


def make(B: int, T: int, D: int, width: int) -> tuple[list[Tensor], Tensor]:
    """The tensors x, before, weight, bias and the starts, which are frequent; one sequence has none, one begins with one."""
    torch.manual_seed(0)
    shapes = (B, T, D), (B, width - 1, D), (width, D), (D,)
    start = torch.rand(B, T) < 0.2
    start[0] = False
    start[-1, 0] = True
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes], start


def run(tensors: list[Tensor], start: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Both results, and the gradients of all tensors."""
    x, before, weight, bias = leaves = [tensor.to(dtype).requires_grad_() for tensor in tensors]
    results = causal_convolution(x, before, start, weight, bias)
    loss = sum((result * torch.linspace(-1, 1, result.numel()).view(result.shape)).sum() for result in results)
    assert isinstance(loss, Tensor)
    return [result.detach() for result in results] + list(torch.autograd.grad(loss, leaves))


@pytest.mark.parametrize(("B", "T", "D", "width"), [(3, 40, 8, 4), (2, 1, 33, 4), (4, 2, 16, 5), (2, 9, 5, 1), (1, 30, 70, 2)])
def test_kernels_compute_the_definition(B: int, T: int, D: int, width: int) -> None:
    tensors, start = make(B, T, D, width)
    for got, want in zip(run(tensors, start, torch.float32), run(tensors, start, torch.float64), strict=True):
        torch.testing.assert_close(got.double(), want, rtol=2e-5, atol=2e-5)


def test_step_by_step_and_on_several_threads_to_the_bit() -> None:
    tensors, start = make(2, 400, 70, 4)
    x, state, weight, bias = (tensor.float() for tensor in tensors)
    want, last = causal_convolution(x, state, start, weight, bias)
    for t in range(400):
        y, state = causal_convolution(x[:, t : t + 1], state, start[:, t : t + 1], weight, bias)
        assert torch.equal(y, want[:, t : t + 1])
    assert torch.equal(state, last)
    alone = run(tensors, start, torch.float32)
    torch.set_num_threads(2)
    try:
        assert all(map(torch.equal, run(tensors, start, torch.float32), alone))
    finally:
        torch.set_num_threads(1)


def test_nothing_of_an_earlier_episode_passes() -> None:
    tensors, _ = make(1, 9, 8, 4)
    start = torch.arange(9)[None] == 5
    want = run(tensors, start, torch.float32)
    tensors[0][0, :5], tensors[1][:] = torch.nan, torch.inf
    y, last, dx, *_ = run(tensors, start, torch.float32)
    assert torch.equal(y[0, 5:], want[0][0, 5:])
    assert torch.equal(last, want[1])
    assert torch.equal(dx[0, 5:], want[2][0, 5:])


def test_gradients_of_several_losses_at_once() -> None:
    """vmap over the backward pass, which cannot read memory: the definition takes over."""
    tensors, start = make(2, 7, 5, 3)
    x, before, weight, bias = (tensor.float().requires_grad_() for tensor in tensors)
    y = causal_convolution(x, before, start, weight, bias)[0]
    seeds = torch.randn(2, *y.shape)
    want = [torch.autograd.grad(y, weight, seed, retain_graph=True)[0] for seed in seeds]
    (got,) = torch.autograd.grad(y, weight, seeds, is_grads_batched=True)
    torch.testing.assert_close(got, torch.stack(want))

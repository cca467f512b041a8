"""The fused CPU kernels of `address` against its definition in torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hadamem.ops.addressing import Heads, address, turns

EVERY = (2, 1, 1, 2)  # heads that find by lag, mirrored, by epoch and by content


def make(heads: Heads, rest: int, B: int = 3, T: int = 11) -> tuple[Tensor, dict[str, Tensor]]:
    """The maps of an input, with a row of zeros, and the other arguments; one sequence is far into its episode."""
    torch.manual_seed(0)
    x = torch.randn(B, T, heads.number * (3 * heads.size + 1 + rest), dtype=torch.float64)
    x[0, 0] = 0
    position = torch.arange(T) + torch.tensor([0, 5, 2**40])[:B, None]
    tables = {f"{name}_turns": turns(n, heads.size) for name in ("lag", "mirror") if (n := getattr(heads, name))}
    return x, {"position": position, **tables}


def run(x: Tensor, heads: Heads, others: dict[str, Tensor], dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """All results, and the gradient of a sum of their products with fixed numbers."""
    x = x.to(dtype).requires_grad_()
    others = {name: other.to(dtype) if other.is_floating_point() else other for name, other in others.items()}
    results = address(x, heads, **others)
    sum((result * torch.linspace(-1, 1, result.numel()).view(result.shape)).sum() for result in results).backward()
    assert x.grad is not None
    return [result.detach() for result in results], x.grad


@pytest.mark.parametrize("size", [1, 5, 8, 16, 24, 33])
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("relations", [EVERY, (0, 0, 0, 1), (0, 0, 2, 0)])
@pytest.mark.parametrize(("rest", "rectified"), [(0, False), (1, True), (2, False)])
def test_kernels_compute_the_definition(size: int, softmax: bool, relations: tuple, rest: int, rectified: bool) -> None:
    if size == 1 and relations == EVERY:
        relations = (0, 0, 1, 2)  # nothing to turn
    heads = Heads(size, *relations, softmax=softmax, rectified=rectified)
    x, others = make(heads, rest * size)
    (got, gradient), (want, wanted) = (run(x, heads, others, dtype) for dtype in (torch.float32, torch.float64))
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=2e-5)


def test_step_by_step_and_on_several_threads_to_the_bit() -> None:
    """A policy's probabilities are the same when it acts and when it learns."""
    heads = Heads(24, *EVERY, softmax=True, rectified=True)
    x, others = make(heads, 24, T=200)
    want, gradient = run(x, heads, others, torch.float32)
    tables = {name: table.float() for name, table in others.items() if name != "position"}
    for t in range(0, 200, 7):
        at = slice(t, t + 1)
        step = address(x[:, at].float(), heads, others["position"][:, at], **tables)
        assert all(torch.equal(one, all_[:, at]) for one, all_ in zip(step, want, strict=True))
    torch.set_num_threads(2)
    try:
        shared, shared_gradient = run(x, heads, others, torch.float32)
    finally:
        torch.set_num_threads(1)
    assert all(map(torch.equal, (*want, gradient), (*shared, shared_gradient)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_stays_in_its_row(bad: float) -> None:
    heads = Heads(8, 0, 0, 0, 2, softmax=True, rectified=True)
    x, others = make(heads, 8)
    x[1, 4, 3] = bad  # in k of the first head
    (k, *clean), gradient = run(x, heads, others, torch.float32)
    assert k[2, 4].isnan().all()
    k[2, 4] = 0
    gradient[1, 4] = 0
    assert all(result.isfinite().all() for result in (k, *clean, gradient))


def test_gradients_of_several_losses_at_once() -> None:
    """vmap over the backward pass, which cannot read memory: the definition takes over."""
    heads = Heads(8, *EVERY, softmax=True, rectified=True)
    x, others = make(heads, 8)
    x, tables = x.float().requires_grad_(), {name: other.float() for name, other in others.items() if name != "position"}
    k = address(x, heads, others["position"], **tables)[0]
    seeds = torch.randn(2, *k.shape)
    want = [torch.autograd.grad(k, x, seed, retain_graph=True)[0] for seed in seeds]
    (got,) = torch.autograd.grad(k, x, seeds, is_grads_batched=True)
    torch.testing.assert_close(got, torch.stack(want))

"""The chunked delta rule is held to the reference in float64: outputs, last state, every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hadamem.ops import delta_memory, reference

NAMES = ("v", "k", "q", "beta", "log_decay", "state")
SHAPES = [(1, 1, 1, 1), (2, 5, 3, 7), (3, 40, 24, 24), (1, 130, 33, 17), (5, 1, 8, 16), (2, 64, 6, 9), (2, 65, 6, 9)]


def make_inputs(B: int, T: int, V: int, K: int, reset: float = 0.1) -> dict[str, Tensor]:
    """Random arguments in float64."""
    v, q = torch.randn(B, T, V, dtype=torch.float64), torch.randn(B, T, K, dtype=torch.float64)
    return {
        "v": v,
        "k": torch.nn.functional.normalize(torch.randn_like(q), dim=-1),
        "q": q,
        "beta": 2 * torch.rand(B, T, dtype=torch.float64),
        "log_decay": -torch.rand(B, T, dtype=torch.float64).exponential_(),
        "state": torch.randn(B, V, K, dtype=torch.float64),
        "start": torch.rand(B, T) < reset,
    }


def run(function: object, arguments: dict[str, Tensor], **options: object) -> list[Tensor]:
    """Outputs, last state and the gradients of all arguments, for one weighting of the results."""
    leaves = {n: arguments[n].clone().requires_grad_() for n in NAMES}
    h, last = function(**leaves, start=arguments["start"], **options)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, dtype=torch.float64, generator=generator) for x in (h, last)]
    loss = (h * weights[0]).sum() + (last * weights[1]).sum()
    return [h.detach(), last.detach(), *torch.autograd.grad(loss, list(leaves.values()))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk", [1, 16, 64])
@pytest.mark.parametrize("reset", [0.0, 0.05, 1.0])
def test_equals_reference(shape: tuple[int, ...], chunk: int, reset: float) -> None:
    arguments = make_inputs(*shape, reset=reset)
    want = run(reference.delta_memory, arguments)
    for got, expected in zip(run(delta_memory, arguments, chunk=chunk), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


def test_float32_stays_close_over_a_long_sequence() -> None:
    arguments = make_inputs(2, 700, 16, 16, reset=0.01)
    want = reference.delta_memory(**arguments)
    got = delta_memory(**{n: x if n == "start" else x.float() for n, x in arguments.items()})
    for x, y in zip(got, want, strict=True):
        assert (x - y).norm() / y.norm() < 1e-5


def test_strong_forgetting_does_not_overflow() -> None:
    """What is left over a chunk is e^-3000: quotients of cumulative products would be 0 / 0."""
    arguments = make_inputs(1, 60, 4, 4) | {"log_decay": torch.full((1, 60), -50.0, dtype=torch.float64)}
    for got, expected in zip(run(delta_memory, arguments), run(reference.delta_memory, arguments), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_passes_a_reset(name: str) -> None:
    """NaN before a reset, in any argument: values and gradients after it are those of a clean run, all before it are NaN."""
    arguments = make_inputs(2, 12, 5, 6, reset=0.0)
    arguments["start"][:, [3, 7]] = True
    results = []
    for poison in (False, True):
        leaves = {n: arguments[n].clone() for n in NAMES}
        if poison:
            leaves[name][0, ... if name == "state" else 4] = torch.nan
        leaves = {n: x.requires_grad_() for n, x in leaves.items()}
        h, last = delta_memory(**leaves, start=arguments["start"], chunk=5)
        h.register_hook(lambda g, h=h: torch.where(h.isnan(), torch.nan, g))  # as from a network that meets NaN there
        gradients = torch.autograd.grad(h[:, 7:].square().sum() + last.square().sum(), [leaves[n] for n in NAMES[:5]])
        results.append([h[:, 7:].detach(), last.detach(), *(g[:, 7:] for g in gradients)])
    for clean, poisoned in zip(*results, strict=True):
        torch.testing.assert_close(poisoned, clean)
    bad = range(3) if name == "state" else range(4, 7)
    assert h[0].isnan().all(-1).tolist() == [t in bad for t in range(12)]
    assert h[1].isfinite().all()


def test_nan_reaches_the_last_state() -> None:
    arguments = make_inputs(2, 12, 5, 6, reset=0.0)
    arguments["k"][0, 3, 1] = torch.inf
    last = delta_memory(**arguments)[1]
    assert last[0].isnan().all()
    assert last[1].isfinite().all()


def test_defaults() -> None:
    arguments = make_inputs(2, 9, 4, 5, reset=0.0)
    arguments["log_decay"], arguments["state"] = torch.zeros_like(arguments["beta"]), torch.zeros_like(arguments["state"])
    got = delta_memory(*(arguments[n] for n in NAMES[:4]))
    for x, y in zip(got, delta_memory(**arguments), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


def test_half_precision_keeps_a_float32_memory() -> None:
    arguments = make_inputs(2, 9, 4, 5)
    half = {n: x if n == "start" else x.bfloat16() for n, x in arguments.items()}
    h, last = delta_memory(**half)
    assert (h.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    want = reference.delta_memory(**{n: x if n == "start" else x.double() for n, x in half.items()})
    torch.testing.assert_close(last.double(), want[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(h.double(), want[0], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"v": torch.zeros(2, 3)}, r"v has shape \(2, 3\); it must be \(B, T, V\)"),
        ({"q": torch.zeros(2, 3, 5)}, r"q has shape \(2, 3, 5\); .*\(2, 3, 4\)"),
        ({"beta": torch.zeros(2, 3, 1)}, r"beta has shape \(2, 3, 1\); .*\(2, 3\)"),
        ({"k": torch.zeros(2, 3, 0)}, r"k has shape \(2, 3, 0\)"),
        ({"state": torch.zeros(2, 4, 5)}, r"state has shape \(2, 4, 5\); .*\(2, 5, 4\)"),
        ({"start": torch.zeros(2, 3)}, r"start has dtype torch.float32; it must be torch.bool"),
        ({"k": torch.zeros(2, 3, 4, dtype=torch.int64)}, r"k has dtype torch.int64"),
        ({"chunk": 0}, r"chunk is 0"),
    ],
)
def test_errors_name_the_argument(change: dict, words: str) -> None:
    x = torch.zeros(2, 3, 4)
    good = {"v": torch.zeros(2, 3, 5), "k": x, "q": x, "beta": x[..., 0]}
    delta_memory(**good)
    with pytest.raises(ValueError, match=words):
        delta_memory(**{**good, **change})


@pytest.mark.parametrize("name", ["k", "beta", "v", "state"])
def test_what_overflows_stays_in_its_episode(name: str) -> None:
    """Finite numbers whose products overflow: values and gradients after the start are those of a clean run."""
    arguments = {n: x if n == "start" else x.float() for n, x in make_inputs(2, 40, 4, 6, reset=0.0).items()}
    arguments["start"][:, 20] = True
    results = []
    for large in (False, True):
        leaves = {n: arguments[n].clone() for n in NAMES}
        if large:
            leaves[name][0, ... if name == "state" else 3] = 3e38
        leaves = {n: x.requires_grad_() for n, x in leaves.items()}
        h, last = delta_memory(**leaves, start=arguments["start"])
        gradients = torch.autograd.grad(h[:, 20:].sum() + last.sum(), [leaves[n] for n in NAMES[:5]])
        results.append([h[:, 20:].detach(), last.detach(), *(g[:, 20:] for g in gradients)])
    for got, want in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)

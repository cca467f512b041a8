"""Every backend of the Hadamard recurrence is held to the reference in float64: outputs, last state, every gradient."""

from __future__ import annotations

import platform

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from recurrences import assert_equal, make_inputs, over_time, run
from torch import Tensor

from hadamem.ops import CALIBRATIONS, hadamard_memory

SHAPES = [(1, 1, 1, 1), (2, 5, 3, 7), (3, 40, 24, 24), (1, 257, 33, 17), (5, 1, 8, 16), (2, 70, 64, 33), (1, 130, 5, 128)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_cpu_equals_reference(calibration: str, shape: tuple[int, ...], poisoned_memory: None) -> None:
    arguments = make_inputs(calibration, *shape)
    want = run(calibration, arguments, "reference", torch.float64)
    assert_equal(run(calibration, arguments, "cpu", torch.float32), want, 1e-5, 1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_parallel_equals_reference(calibration: str, shape: tuple[int, ...]) -> None:
    arguments = make_inputs(calibration, *shape)
    want = run(calibration, arguments, "reference", torch.float64)
    assert_equal(run(calibration, arguments, "parallel", torch.float64), want, 1e-12, 1e-11)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(CALIBRATIONS)),
    st.tuples(st.integers(1, 4), st.integers(1, 70), st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.integers(0, 2**16),
)
@example("column", (1, 1, 30, 27), 1.0, 112)  # k . q is almost 0, and with it all that is read
def test_any_shape(calibration: str, shape: tuple[int, int, int, int], reset: float, seed: int) -> None:
    arguments = make_inputs(calibration, *shape, reset=reset, seed=seed)
    want = run(calibration, arguments, "reference", torch.float64)
    scale = run(calibration, arguments, "reference", torch.float64, magnitudes=True)
    assert_equal(run(calibration, arguments, "cpu", torch.float32), want, 1e-5, 1e-5, scale)
    assert_equal(run(calibration, arguments, "parallel", torch.float64), want, 1e-12, 1e-12, scale)


@pytest.mark.parametrize("backend", ["reference", "parallel"])
@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_gradcheck(calibration: str, backend: str) -> None:
    arguments = make_inputs(calibration, 2, 5, 3, 2, reset=0.3)
    leaves = [x.requires_grad_() for x in (*(arguments[n] for n in ("a", "k", "q", "state")), *arguments["factors"])]

    def function(a: Tensor, k: Tensor, q: Tensor, state: Tensor, *factors: Tensor) -> tuple[Tensor, Tensor]:
        return hadamard_memory(
            a, k, q, calibration=calibration, factors=factors, start=arguments["start"], state=state, backend=backend
        )

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("backend", ["reference", "parallel", "cpu"])
@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_nothing_passes_a_reset(calibration: str, backend: str) -> None:
    """NaN in the state and in all inputs before a reset: values and gradients after it are those of a clean run."""
    arguments = make_inputs(calibration, 1, 12, 5, 6, reset=0.0)
    arguments["start"][0, 7] = True
    dtype = torch.float32 if backend == "cpu" else torch.float64

    def after(poison: bool) -> list[Tensor]:
        inputs = [arguments[n].to(dtype).clone() for n in ("a", "k", "q")]
        factors = [factor.to(dtype).clone() for factor in arguments["factors"]]
        state = arguments["state"].to(dtype).clone()
        if poison:
            for x in (*inputs, *over_time(calibration, factors)):
                x[:, :7] = torch.nan
            state[:] = torch.nan
        leaves = [x.requires_grad_() for x in (*inputs, *over_time(calibration, factors))]
        h, last = hadamard_memory(
            *inputs, factors=factors, calibration=calibration, start=arguments["start"], state=state, backend=backend
        )
        gradients = torch.autograd.grad(h[:, 7:].square().sum() + last.square().sum(), leaves)
        return [h[:, 7:].detach(), last.detach(), *(g[:, 7:] for g in gradients)]

    for clean, poisoned in zip(after(False), after(True), strict=True):
        torch.testing.assert_close(poisoned, clean)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_nan_is_not_hidden(calibration: str) -> None:
    arguments = make_inputs(calibration, 1, 4, 3, 3, reset=0.0)
    for name in ("a", "k", "q"):
        arguments[name] = arguments[name].float()
    factors = [factor.float() for factor in arguments["factors"]]
    for poisoned in [arguments["a"], arguments["k"], *over_time(calibration, factors)]:
        kept = poisoned.clone()
        poisoned[0, 1] = torch.nan
        h, _ = hadamard_memory(
            arguments["a"], arguments["k"], arguments["q"], calibration=calibration, factors=factors, backend="cpu"
        )
        assert h[0, 0].isfinite().all()
        assert h[0, 1:].isnan().any()
        poisoned.copy_(kept)


def test_non_contiguous_inputs() -> None:
    arguments = make_inputs("tanh_outer", 3, 9, 6, 10)
    want = run("tanh_outer", arguments, "reference", torch.float64)
    for name in ("a", "k", "q", "state"):
        arguments[name] = arguments[name].transpose(0, 1).contiguous().transpose(0, 1)
    arguments["factors"] = [torch.stack([f, f], dim=-1)[..., 0] for f in arguments["factors"]]
    arguments["start"] = arguments["start"].T.contiguous().T
    assert_equal(run("tanh_outer", arguments, "cpu", torch.float32), want, 1e-5, 1e-4)


def test_defaults_are_no_reset_and_an_empty_memory() -> None:
    arguments = make_inputs("tanh_outer", 2, 6, 4, 5, reset=0.0)
    given_all = hadamard_memory(**{**arguments, "state": torch.zeros(2, 4, 5, dtype=torch.float64)})
    left_out = hadamard_memory(arguments["a"], arguments["k"], arguments["q"], factors=arguments["factors"])
    for x, y in zip(given_all, left_out, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


def test_half_precision_keeps_a_float32_memory() -> None:
    arguments = make_inputs("tanh_outer", 2, 6, 4, 5)
    half = {n: x.bfloat16() for n, x in arguments.items() if n in ("a", "k", "q")}
    factors = [factor.bfloat16() for factor in arguments["factors"]]
    h, last = hadamard_memory(**half, factors=factors, start=arguments["start"], state=arguments["state"].float())
    assert h.dtype == torch.bfloat16
    assert last.dtype == torch.float32
    want, _ = hadamard_memory(
        **{n: x.double() for n, x in half.items()}, factors=[f.double() for f in factors], start=arguments["start"],
        state=arguments["state"],
    )  # fmt: skip
    torch.testing.assert_close(h.double(), want, rtol=2e-2, atol=2e-2)


def test_unneeded_gradients() -> None:
    """Only the last state is used, or only one input wants a gradient."""
    arguments = make_inputs("tanh_outer", 2, 20, 4, 5)
    results = []
    for backend, dtype in (("reference", torch.float64), ("cpu", torch.float32)):
        inputs = {n: x.to(dtype) for n, x in arguments.items() if n in ("a", "k", "q", "state")}
        factors = [factor.to(dtype) for factor in arguments["factors"]]
        k = inputs["k"] = inputs["k"].requires_grad_()
        _, last = hadamard_memory(**inputs, factors=factors, start=arguments["start"], backend=backend)
        results.append(torch.autograd.grad(last.sum(), k)[0].double())
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


def test_calibration_is_accurate_over_its_whole_range() -> None:
    """1 + tanh(x) from one step on a memory of ones: absolute error below 5e-7 for every x, also far outside."""
    x = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([1e4, -1e4, torch.inf, -torch.inf, 0.0])])
    one, zero = torch.ones(len(x), 1, 1), torch.zeros(len(x), 1, 1)
    h, _ = hadamard_memory(zero, zero, one, factors=(one, x.view(-1, 1, 1)), state=one, backend="cpu")
    want = 1 + torch.tanh(x.double())
    assert (h.flatten().double() - want).abs().max() < 5e-7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": torch.zeros(2, 3)}, ["a has shape (2, 3)", "(B, T, H)"]),
        ({"k": torch.zeros(2, 0, 4)}, ["k has shape (2, 0, 4)", "no dimension zero"]),
        ({"q": torch.zeros(2, 3, 5)}, ["q has shape (2, 3, 5)", "(2, 3, 4)"]),
        ({"start": torch.zeros(2, 3)}, ["start", "torch.float32", "torch.bool"]),
        ({"state": torch.zeros(2, 4, 4)}, ["state has shape (2, 4, 4)", "(2, 5, 4)"]),
        ({"k": torch.zeros(2, 3, 4, dtype=torch.float64)}, ["k has dtype torch.float64", "torch.float32"]),
        ({"k": torch.zeros(2, 3, 4, dtype=torch.int64), "q": torch.zeros(2, 3, 4, dtype=torch.int64)}, ["floating"]),
        ({"q": torch.zeros(2, 3, 4, device="meta")}, ["q is on meta", "cpu"]),
        ({"factors": ()}, ["factors has 0 tensors", "tanh_outer", "u (B, T, V), w (B, T, K)"]),
        ({"factors": (torch.zeros(2, 3, 5), torch.zeros(2, 3, 5))}, ["factor w has shape (2, 3, 5)", "(2, 3, 4)"]),
        ({"calibration": "tanh"}, ["calibration is 'tanh'", "tanh_outer"]),
        ({"backend": "numba"}, ["backend is 'numba'", "reference"]),
    ],
)
def test_errors_name_the_argument(change: dict, words: list[str]) -> None:
    good = {
        "a": torch.zeros(2, 3, 5),
        "k": torch.zeros(2, 3, 4),
        "q": torch.zeros(2, 3, 4),
        "factors": (torch.zeros(2, 3, 5), torch.zeros(2, 3, 4)),
    }
    hadamard_memory(**good)
    with pytest.raises(ValueError, match=r".") as caught:
        hadamard_memory(**{**good, **change})
    for word in words:
        assert word in str(caught.value)


def test_float64_on_the_cpu_backend_is_refused() -> None:
    x = torch.zeros(1, 1, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"float32.*float64.*reference"):
        hadamard_memory(x, x, x, calibration="ones", backend="cpu")


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_opcheck(calibration: str) -> None:
    arguments = make_inputs(calibration, 2, 7, 3, 5)
    a, k, q, state = (arguments[n].float().requires_grad_() for n in ("a", "k", "q", "state"))
    factors = [factor.float().requires_grad_() for factor in arguments["factors"]]
    for save in (True, False):
        inputs = (calibration, factors, a, k, q, arguments["start"], state, save)
        tests = ("test_schema", "test_faketensor", "test_autograd_registration", "test_aot_dispatch_static")
        torch.library.opcheck(torch.ops.hadamem.hadamard_memory.default, inputs, test_utils=tests if save else tests[:3])


def test_compile_equals_eager() -> None:
    arguments = make_inputs("tanh_outer", 2, 19, 6, 9)
    want = run("tanh_outer", arguments, "cpu", torch.float32)
    torch._dynamo.reset()
    leaves = {n: arguments[n].float().clone().requires_grad_() for n in ("a", "k", "q", "state")}
    factors = [factor.float().clone().requires_grad_() for factor in arguments["factors"]]

    @torch.compile(backend="aot_eager", fullgraph=True)
    def compiled(leaves: dict, factors: list, start: Tensor) -> tuple[Tensor, Tensor]:
        return hadamard_memory(**leaves, factors=factors, start=start)

    h, last = compiled(leaves, factors, arguments["start"])
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, dtype=torch.float64, generator=generator).float() for x in (h, last)]
    gradients = torch.autograd.grad((h * weights[0]).sum() + (last * weights[1]).sum(), [*leaves.values(), *factors])
    for got, expected in zip((h, last, *gradients), want, strict=True):
        torch.testing.assert_close(got, expected)


def test_another_default_dtype() -> None:
    """Buffers are float32 whatever torch makes by default."""
    arguments = make_inputs("tanh_outer", 2, 40, 9, 17)
    want = run("tanh_outer", arguments, "reference", torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        got = run("tanh_outer", arguments, "cpu", torch.float32)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_equal(got, want, 1e-5, 1e-4)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_a_clamped_memory_equals_the_reference(calibration: str) -> None:
    """Outputs, last state and gradients, through resets; and the bound was reached."""
    B, T, V, K = 2, 9, 3, 4
    sizes = {"B": B, "T": T, "V": V, "K": K}
    shapes = [[sizes[d] for d in dims] for dims in CALIBRATIONS[calibration].values()]
    leaves = [torch.rand(shape, requires_grad=True) for shape in ([B, T, V], [B, T, K], [B, T, K], [B, V, K], *shapes)]
    start, results = torch.rand(B, T) < 0.2, []
    for backend in ("auto", "reference"):
        a, k, q, state, *factors = leaves
        h, last = hadamard_memory(
            a, k, q, calibration=calibration, factors=factors, start=start, state=state, clamp=0.6, backend=backend
        )
        results.append([h, last, *torch.autograd.grad(h.square().sum() + last.sum(), leaves)])
    torch.testing.assert_close(results[0], results[1])
    assert results[0][1].max() == 0.6
    with pytest.raises(ValueError, match=r"backend is 'cpu'; with clamp = 0.6 it must be"):
        hadamard_memory(a, k, q, calibration=calibration, factors=factors, clamp=0.6, backend="cpu")


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="only x86 is slow with tiny numbers")
def test_what_is_almost_forgotten_costs_nothing() -> None:
    """A memory that is halved at every step comes to numbers below 1.2e-38, with which x86 takes ten times as long."""
    T = 160
    a, k, q = (torch.ones(1, T, 4) for _ in range(3))
    a[:, 1:] = 0
    halves = [torch.full((1, T), 0.5)]
    h, last = hadamard_memory(a, k, q, calibration="scalar", factors=halves, backend="cpu")
    wanted, _ = hadamard_memory(a, k, q, calibration="scalar", factors=halves, backend="reference")
    torch.testing.assert_close(h, wanted, rtol=1e-6, atol=1e-37)
    assert h[0, 120].all()
    assert not last.any()
    assert torch.tensor([2e-39]).mul(0.5).item() > 0, "the caller's arithmetic is as it was"

"""Every backend of the linear recurrence is held to the reference in double precision: y, the last y, every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hadamem.ops import linear_recurrence
from hadamem.ops.threads import adapting

SHAPES = [(1, 1, 1), (2, 5, 3), (3, 40, 24), (1, 257, 33), (5, 1, 16), (2, 70, 64)]
KINDS = [(is_complex, constant) for is_complex in (False, True) for constant in (False, True)]
over_kinds = pytest.mark.parametrize(("is_complex", "constant"), KINDS)


def make_inputs(B: int, T: int, N: int, is_complex: bool, constant: bool, reset: float = 0.1) -> dict[str, Tensor]:
    """Random arguments in double precision; the decay is of absolute value below 1.1."""
    dtype = torch.complex128 if is_complex else torch.float64

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype)

    decay = random(N) if constant else random(B, T, N)
    decay = 1.1 * decay / decay.abs().clamp(min=1)
    return {"decay": decay, "x": random(B, T, N), "state": random(B, N), "start": torch.rand(B, T) < reset}


def single(arguments: dict[str, Tensor]) -> dict[str, Tensor]:
    """In the dtypes of the fused kernels."""
    narrow = {torch.float64: torch.float32, torch.complex128: torch.complex64}
    return {n: x.to(narrow.get(x.dtype, x.dtype)) for n, x in arguments.items()}


def run(arguments: dict[str, Tensor], backend: str) -> list[Tensor]:
    """[y, last y, gradients of decay, x and state] for fixed random gradients of y and the last y."""
    leaves = {n: arguments[n].clone().requires_grad_() for n in ("decay", "x", "state")}
    outputs = linear_recurrence(**leaves, start=arguments["start"], backend=backend)
    generator = torch.Generator().manual_seed(1)
    wide = torch.complex128 if outputs[0].is_complex() else torch.float64
    weights = [torch.randn(x.shape, dtype=wide, generator=generator).to(x.dtype) for x in outputs]
    return [x.detach() for x in (*outputs, *torch.autograd.grad(outputs, list(leaves.values()), weights))]


def assert_equal(got: list[Tensor], want: list[Tensor], tolerance: float) -> None:
    for name, g, w in zip(["y", "last", "ddecay", "dx", "dstate"], got, want, strict=True):
        assert g.shape == w.shape
        error = (g - w).norm() / w.norm().clamp(min=1e-12)
        assert error < tolerance, f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("shape", SHAPES)
@over_kinds
def test_backends_equal_the_reference(
    shape: tuple[int, int, int], is_complex: bool, constant: bool, poisoned_memory: None
) -> None:
    arguments = make_inputs(*shape, is_complex, constant)
    want = run(arguments, "reference")
    assert_equal(run(single(arguments), "cpu"), want, 1e-5)
    assert_equal(run(arguments, "parallel"), want, 1e-11)


@pytest.mark.parametrize("backend", ["reference", "parallel"])
@over_kinds
def test_gradcheck(backend: str, is_complex: bool, constant: bool) -> None:
    arguments = make_inputs(2, 5, 3, is_complex, constant, reset=0.3)

    def function(decay: Tensor, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return linear_recurrence(decay, x, state=state, start=arguments["start"], backend=backend)

    assert torch.autograd.gradcheck(function, [arguments[n].requires_grad_() for n in ("decay", "x", "state")])


@pytest.mark.parametrize("backend", ["reference", "parallel", "cpu"])
@over_kinds
def test_nothing_passes_a_reset(backend: str, is_complex: bool, constant: bool) -> None:
    """NaN in the state and in all inputs before a reset: values and gradients after it are those of a clean run."""
    arguments = make_inputs(1, 12, 5, is_complex, constant, reset=0.0)
    arguments["start"][0, 7] = True
    arguments = single(arguments) if backend == "cpu" else arguments

    def after(poison: bool) -> list[Tensor]:
        decay, x, state = (arguments[n].clone() for n in ("decay", "x", "state"))
        if poison:
            nan = complex(torch.nan, torch.nan) if is_complex else torch.nan
            state[:], x[:, :7] = nan, nan
            if not constant:
                decay[:, :7] = nan
        leaves = [x.requires_grad_(), decay.requires_grad_()]
        y, last = linear_recurrence(decay, x, state=state, start=arguments["start"], backend=backend)
        gradients = torch.autograd.grad(y[:, 7:].abs().square().sum() + last.abs().square().sum(), leaves)
        # a constant decay has one gradient for all steps, those before the reset too
        return [y[:, 7:].detach(), last.detach(), gradients[0][:, 7:], *([] if constant else [gradients[1][:, 7:]])]

    for clean, poisoned in zip(after(False), after(True), strict=True):
        torch.testing.assert_close(poisoned, clean)


def test_non_contiguous_and_lazily_conjugated_inputs() -> None:
    arguments = make_inputs(3, 9, 10, True, False)
    want = run(arguments, "reference")
    strided = {n: x.transpose(0, 1).contiguous().transpose(0, 1) for n, x in single(arguments).items()}
    assert_equal(run(strided, "cpu"), want, 1e-5)
    lazy = {n: x.conj().resolve_conj().conj() if x.is_complex() else x for n, x in single(arguments).items()}
    assert lazy["x"].is_conj()
    y, _ = linear_recurrence(**lazy, backend="cpu")
    torch.testing.assert_close(y, want[0].to(y.dtype), rtol=1e-4, atol=1e-5)


def test_defaults_and_half_types() -> None:
    arguments = make_inputs(2, 6, 4, False, True, reset=0.0)
    arguments["state"].zero_()
    want = linear_recurrence(**arguments)
    torch.testing.assert_close(linear_recurrence(arguments["decay"], arguments["x"]), want)
    y, last = linear_recurrence(arguments["decay"].bfloat16(), arguments["x"].bfloat16())
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(y.double(), want[0], rtol=0.05, atol=0.05)


def test_threads_share_the_work_without_changing_it() -> None:
    for B, is_complex, constant in ((1, False, False), (3, True, True)):
        arguments = single(make_inputs(B, 700, 150, is_complex, constant))
        want = run(arguments, "cpu")
        torch.set_num_threads(2)
        try:
            got = run(arguments, "cpu")
        finally:
            torch.set_num_threads(1)
        assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


def test_threads_that_adapt_change_nothing() -> None:
    arguments = single(make_inputs(2, 700, 150, True, False))
    want = run(arguments, "cpu")
    with adapting(3):
        for _ in range(4):
            assert all(torch.equal(g, w) for g, w in zip(run(arguments, "cpu"), want, strict=True))


@over_kinds
def test_opcheck(is_complex: bool, constant: bool) -> None:
    arguments = single(make_inputs(2, 7, 3, is_complex, constant))
    decay, x, state = (arguments[n].requires_grad_() for n in ("decay", "x", "state"))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration", "test_aot_dispatch_static")
    torch.library.opcheck(torch.ops.hadamem.linear_recurrence.default, (decay, x, arguments["start"], state), test_utils=tests)


@over_kinds
def test_compile_equals_eager(is_complex: bool, constant: bool) -> None:
    arguments = single(make_inputs(2, 19, 6, is_complex, constant))
    leaves = [arguments[n].requires_grad_() for n in ("decay", "x", "state")]
    torch._dynamo.reset()

    def function(decay: Tensor, x: Tensor, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        return linear_recurrence(decay, x, state=state, start=start)

    results = []
    for f in (function, torch.compile(function, backend="aot_eager", fullgraph=True)):
        y, last = f(*leaves, arguments["start"])
        loss = y.abs().square().sum() + last.abs().square().sum()
        results.append((y, last, *torch.autograd.grad(loss, leaves)))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": torch.zeros(2, 3)}, ["x has shape (2, 3)", "(B, T, N)"]),
        ({"x": torch.zeros(2, 0, 4)}, ["no dimension zero"]),
        ({"decay": torch.zeros(5)}, ["decay has shape (5,)", "(N) = (4,)"]),
        ({"decay": torch.zeros(2, 1, 4)}, ["decay has shape (2, 1, 4)", "(2, 3, 4)"]),
        ({"decay": torch.zeros(4, dtype=torch.complex64)}, ["decay has dtype torch.complex64", "floating point"]),
        ({"x": torch.zeros(2, 3, 4, dtype=torch.complex64)}, ["decay has dtype torch.float32", "complex type"]),
        ({"decay": torch.zeros(4, dtype=torch.float64)}, ["decay has dtype torch.float64", "torch.float32"]),
        ({"decay": torch.zeros(4, device="meta")}, ["decay is on meta", "cpu"]),
        ({"start": torch.zeros(2, 3)}, ["start", "torch.float32", "torch.bool"]),
        ({"state": torch.zeros(2, 5)}, ["state has shape (2, 5)", "(2, 4)"]),
        ({"backend": "numba"}, ["backend is 'numba'", "reference"]),
        ({"backend": "gpu"}, ["'gpu' computes in float32 on cuda", "reference"]),
        (
            {"backend": "cpu", "x": torch.zeros(2, 3, 4).double(), "decay": torch.zeros(4).double()},
            ["float32 on cpu", "torch.float64"],
        ),
    ],
)
def test_errors_name_the_argument(change: dict, words: list[str]) -> None:
    good = {"decay": torch.zeros(4), "x": torch.zeros(2, 3, 4)}
    linear_recurrence(**good)
    with pytest.raises(ValueError, match=r".") as caught:
        linear_recurrence(**{**good, **change})
    for word in words:
        assert word in str(caught.value)

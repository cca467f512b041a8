"""The Triton kernels against the definition: on the GPU where there is one, else in Triton's interpreter."""

import importlib.util
import itertools
import os
import sys
from importlib.metadata import version

import pytest
import torch

from hadamem.ops import CALIBRATIONS, reference
from hadamem.ops.hadamard import gpu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    assert "triton" not in sys.modules, "set TRITON_INTERPRET=1 before Triton is imported: it looks only then"
    os.environ["TRITON_INTERPRET"] = "1"  # gpu.py imports Triton on its first call


def _why_not():
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if DEVICE == "cpu" and tuple(map(int, version("triton").split(".")[:2])) < (3, 7):
        return "Triton's interpreter needs a newer Triton: 3.7"  # older ones tune on a GPU only, or break on NumPy 2.4
    return ""


needs_triton = pytest.mark.skipif(bool(_why_not()), reason=_why_not())
pytestmark = pytest.mark.usefixtures("poisoned_memory")


def example(calibration, B, T, V, K, seed=0):
    """Inputs by name, in float64, and the gradients dh and dlast that come back."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"B": B, "T": T, "V": V, "K": K}

    def normal(dims):
        return torch.randn([sizes[d] for d in dims], generator=generator, dtype=torch.float64).float().double()

    factors = [normal(dims) for dims in CALIBRATIONS[calibration].values()]
    if calibration != "tanh_outer":
        factors = [torch.sigmoid(f).float().double() for f in factors]
    start = torch.rand(B, T, generator=generator) < 0.1
    return factors, normal("BTV"), normal("BTK"), normal("BTK"), start, normal("BVK"), normal("BTV"), normal("BVK")


def by_definition(calibration, factors, a, k, q, start, state, dh, dlast):
    leaves = [x.detach().clone().requires_grad_() for x in (*factors, a, k, q, state)]
    h, last = reference.hadamard_memory(calibration, leaves[: len(factors)], *leaves[-4:-1], start, leaves[-1])
    return [h.detach(), last.detach(), *torch.autograd.grad([h, last], leaves, [dh, dlast])]


def by_kernels(calibration, factors, a, k, q, start, state, dh, dlast):
    factors = [f.float().to(DEVICE) for f in factors]
    a, k, q, state, dh, dlast = (x.float().to(DEVICE) for x in (a, k, q, state, dh, dlast))
    start = start.to(DEVICE)
    h, last, saved = gpu.forward(calibration, factors, a, k, q, start, state, True)
    assert saved.shape == gpu.saved_shape(calibration, *a.shape, k.shape[2])
    dfactors, *others = gpu.backward(calibration, factors, a, k, q, start, saved, dh, dlast)
    return [x.cpu() for x in (h, last, *dfactors, *others)]


def assert_same(got, want, tolerance=1e-4):
    """Outputs within 1e-5, gradients within `tolerance`, of the norm."""
    assert len(got) == len(want)
    for n, (x, y) in enumerate(zip(got, want, strict=True)):
        assert x.shape == y.shape
        error = (x - y).norm() / y.norm().clamp_min(1e-6)
        assert error < (1e-5 if n < 2 else tolerance), f"tensor {n} of {len(want)} is off by {error:.1e}"


@needs_triton
@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("sizes", [(2, 37, 21, 13), (1, 1, 3, 5), (3, 16, 1, 1), (2, 19, 16, 32)], ids=str)
def test_matches_the_definition(calibration, sizes):
    inputs = example(calibration, *sizes)
    assert_same(by_kernels(calibration, *inputs), by_definition(calibration, *inputs))


@needs_triton
def test_many_chunks():
    inputs = example("tanh_outer", 1, 257, 5, 6)
    inputs[4].fill_(False)  # no reset: the first step feels the last
    inputs[0][0].mul_(0.3)
    assert_same(by_kernels("tanh_outer", *inputs), by_definition("tanh_outer", *inputs))


@needs_triton
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # exp(400) = inf is meant, and NumPy warns
def test_large_arguments_of_tanh():
    inputs = example("tanh_outer", 1, 20, 4, 5)
    inputs[0][0].mul_(100)
    got = by_kernels("tanh_outer", *inputs)
    assert_same(got, by_definition("tanh_outer", *inputs))
    # in the limits C is exactly 0 and 2
    factors = [torch.tensor([[[-200.0, 200.0]]]), torch.ones(1, 1, 1)]
    one, zero, start = torch.ones(1, 1, 1), torch.zeros(1, 1, 2), torch.zeros(1, 1, dtype=torch.bool)
    arguments = [x.to(DEVICE) for x in (zero, one, one, start, torch.ones(1, 2, 1))]
    last = gpu.forward("tanh_outer", [f.to(DEVICE) for f in factors], *arguments, False)[1]
    assert last.flatten().tolist() == [0.0, 2.0]


@needs_triton
@pytest.mark.parametrize("rows", [4, 8, 32])
def test_row_blocks_do_not_matter(rows, monkeypatch):
    from triton import Config

    forward, backward = gpu._kernels()
    blocks = {"BLOCK_V": rows, "STAGES": 1}
    monkeypatch.setattr(forward, "configs", [Config(blocks)])
    monkeypatch.setattr(backward, "configs", [Config(blocks, pre_hook=gpu._fit_partial_sums)])
    inputs = example("tanh_outer", 2, 18, 19, 6)
    assert_same(by_kernels("tanh_outer", *inputs), by_definition("tanh_outer", *inputs))


@needs_triton
@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_nothing_passes_a_reset(calibration):
    """NaN in the state and in all inputs before a reset changes no bit after it, forward or backward."""
    T, reset = 21, 17
    *inputs, dh, dlast = example(calibration, 2, T, 19, 6)
    factors, a, k, q, start, state = inputs
    start.fill_(False)
    start[:, reset] = True
    want = by_kernels(calibration, *inputs, dh, dlast)
    over_time = ["T" in dims for dims in CALIBRATIONS[calibration].values()]
    for x in (*itertools.compress(factors, over_time), a, k, q):
        x[:, :reset] = torch.nan
    state.fill_(torch.nan)
    got = by_kernels(calibration, *inputs, dh, dlast)
    for n, (x, y) in enumerate(zip(got[:-1], want[:-1], strict=True)):
        if 2 <= n < 2 + len(over_time) and not over_time[n - 2]:
            continue  # what has no time has met the NaN
        after = slice(None) if n == 1 else slice(reset, None)  # the last M has no time
        assert torch.equal(x[:, after], y[:, after])
        assert x[:, after].isfinite().all()


@needs_triton
def test_a_reset_at_the_first_step_drops_the_state():
    *inputs, dh, dlast = example("tanh_outer", 2, 5, 3, 4)
    inputs[4][:, 0] = True
    inputs[5].fill_(torch.nan)
    got = by_kernels("tanh_outer", *inputs, dh, dlast)
    assert all(x.isfinite().all() for x in got)
    assert (got[-1] == 0).all()


@needs_triton
def test_strided_inputs():
    factors, *others, start, state, dh, dlast = example("tanh_outer", 3, 7, 4, 6)
    inputs = (factors, *others, start, state, dh, dlast)
    want = by_kernels("tanh_outer", *inputs)

    def strided(x):
        return x.movedim(0, -1).contiguous().movedim(-1, 0)

    got = by_kernels("tanh_outer", [strided(f) for f in factors], *(strided(x) for x in inputs[1:]))
    assert all(torch.equal(x, y) for x, y in zip(got, want, strict=True))


@needs_triton
def test_acting_saves_nothing():
    factors, a, k, q, start, state, _, _ = example("scalar", 2, 3, 4, 5)
    arguments = [x.float().to(DEVICE) for x in (a, k, q)] + [start.to(DEVICE), state.float().to(DEVICE)]
    factors = [f.float().to(DEVICE) for f in factors]
    h, last, saved = gpu.forward("scalar", factors, *arguments, False)
    assert saved.numel() == 0
    kept = gpu.forward("scalar", factors, *arguments, True)
    assert torch.equal(h, kept[0])
    assert torch.equal(last, kept[1])


def test_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match="needs Triton"):
        gpu._kernels.__wrapped__()

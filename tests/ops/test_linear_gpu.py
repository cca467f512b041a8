"""The Triton kernels of the linear recurrence against the definition: on the GPU where there is one, else interpreted."""

import pytest
import torch
from test_gpu import DEVICE, needs_triton
from test_linear import assert_equal, make_inputs, over_kinds, run, single

from hadamem.ops.linear import gpu as linear_gpu

pytestmark = [pytest.mark.usefixtures("poisoned_memory"), needs_triton]


def by_kernels(arguments):
    """What `run` gives, from the kernels."""
    generator = torch.Generator().manual_seed(1)
    wide = torch.complex128 if arguments["x"].is_complex() else torch.float64
    B, T, N = arguments["x"].shape
    dy, dlast = (torch.randn(shape, dtype=wide, generator=generator) for shape in ((B, T, N), (B, N)))
    dy[:, -1] += dlast  # the last y is one of the y
    narrow = {name: x.to(DEVICE) for name, x in single(arguments | {"dy": dy}).items()}
    decay, x, state, start, dy = (narrow[name] for name in ("decay", "x", "state", "start", "dy"))
    y = linear_gpu.forward(decay, x, start, state)
    gradients = linear_gpu.backward(decay, start, state, y, dy)
    return [tensor.cpu() for tensor in (y, y[:, -1], *gradients)]


@over_kinds
@pytest.mark.parametrize("shape", [(2, 13, 21), (1, 1, 1), (3, 9, 130)], ids=str)
def test_matches_the_definition(shape, is_complex, constant):
    arguments = make_inputs(*shape, is_complex, constant)
    assert_equal(by_kernels(arguments), run(arguments, "reference"), 1e-5)


@over_kinds
def test_nothing_passes_a_reset(is_complex, constant):
    arguments = make_inputs(2, 11, 5, is_complex, constant, reset=0.0)
    arguments["start"][:, 7] = True
    want = by_kernels(arguments)
    nan = complex(torch.nan, torch.nan) if is_complex else torch.nan
    arguments["x"][:, :7], arguments["state"][:] = nan, nan
    if not constant:
        arguments["decay"][:, :7] = nan
    got = by_kernels(arguments)
    assert torch.equal(got[0][:, 7:], want[0][:, 7:])
    assert torch.equal(got[3][:, 7:], want[3][:, 7:])
    if not constant:
        assert torch.equal(got[2][:, 7:], want[2][:, 7:])


def test_strided_and_lazily_conjugated_inputs():
    arguments = make_inputs(3, 7, 6, True, False)
    want = by_kernels(arguments)
    arguments = {n: x.movedim(0, -1).contiguous().movedim(-1, 0) for n, x in arguments.items()}
    assert all(torch.equal(x, y) for x, y in zip(by_kernels(arguments), want, strict=True))
    x = arguments["x"].to(DEVICE, torch.complex64)
    zero = torch.zeros(6, dtype=torch.complex64, device=DEVICE)
    start, state = arguments["start"].to(DEVICE), torch.zeros(3, 6, dtype=torch.complex64, device=DEVICE)
    assert torch.equal(linear_gpu.forward(zero, x.conj(), start, state).cpu(), x.conj().cpu().resolve_conj())

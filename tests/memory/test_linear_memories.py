"""The memories on the linear recurrence against their papers' equations, written out step by step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hadamem.memory import FFM, LRU, S5, MinGRU
from hadamem.memory.s5 import hippo_normal

T, D, OUT, N = 30, 3, 4, 8


def some_input() -> Tensor:
    return torch.randn(1, T, D, dtype=torch.float64)


def pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.detach().unflatten(-1, (-1, 2)).contiguous())


def test_lru_is_its_equations() -> None:
    memory, x = LRU(D, OUT, N).double(), some_input()
    size = torch.exp(-memory.nu.detach().exp())
    decay = size * torch.exp(1j * memory.phi.detach().exp())
    B = torch.sqrt(1 - size**2)[:, None] * torch.view_as_complex(memory.write.detach())
    C = pairs(memory.read.weight).conj()
    h, want = torch.zeros(N, dtype=torch.complex128), []
    for u in x[0]:
        h = decay * h + B @ u.to(B.dtype)
        want.append((C @ h).real + memory.skip.weight.detach() @ u)
    y, state = memory(x)
    torch.testing.assert_close(y[0].detach(), torch.stack(want))
    torch.testing.assert_close(state["hidden"][0].detach(), h)


def test_lru_starts_on_its_ring() -> None:
    decay, gain = LRU(D, OUT, 2000, r_min=0.4, r_max=0.8, max_phase=0.3).decay_and_gain()
    radius = decay.abs()
    assert radius.min() > 0.399
    assert radius.max() < 0.801
    assert ((radius**2).mean() - (0.4**2 + 0.8**2) / 2).abs() < 0.02  # uniform by area
    assert decay.angle().min() > 0
    assert decay.angle().max() < 0.301
    torch.testing.assert_close(gain**2 + radius**2, torch.ones(2000))


def test_s5_is_the_continuous_system_of_hippo() -> None:
    """With all pairs of HiPPO-N in its own coordinates: the same as its real matrix, held between steps."""
    torch.manual_seed(1)
    memory = S5(D, OUT, N)
    memory.log_dt.data.fill_(math.log(0.05))  # one step size for all, or the matrix could not be put together again
    memory, x = memory.double(), some_input()
    n = torch.arange(2 * N, dtype=torch.float64)
    root = torch.sqrt(2 * n + 1)
    legs = -(torch.tril(torch.outer(root, root), -1) + torch.diag(n + 1))
    rank_one = torch.sqrt(n + 0.5)
    A = legs + torch.outer(rank_one, rank_one)
    _, vectors = hippo_normal(2 * N)
    B = 2 * (vectors @ torch.view_as_complex(memory.write.detach())).real  # both of each pair
    C = (pairs(memory.read.weight).conj() @ vectors.mH).real
    held = torch.linalg.matrix_exp(0.05 * A)
    into = torch.linalg.solve(A, (held - torch.eye(2 * N, dtype=torch.float64)) @ B)
    h, want = torch.zeros(2 * N, dtype=torch.float64), []
    for u in x[0]:
        h = held @ h + into @ u
        want.append(C @ h + memory.skip.weight.detach() @ u)
    torch.testing.assert_close(memory(x)[0][0].detach(), torch.stack(want), rtol=1e-4, atol=1e-4)  # float32 initialisation


def test_ffm_is_its_equations() -> None:
    memory, x = FFM(D, OUT, 5, 3).double(), some_input()
    a, b = memory.log_rate.detach().exp()[:, None], memory.frequency.detach()[None]
    S, want = torch.zeros(5, 3, dtype=torch.complex128), []
    for u in x[0]:
        new, gate_in, through, gate_out = memory.project(u).detach().split(memory.sizes)
        S = S * torch.exp(-a + 1j * b) + (new * gate_in.sigmoid())[:, None]
        z = memory.read(torch.view_as_real(S).flatten()).detach()
        want.append(F.layer_norm(z, (OUT,)) * gate_out.sigmoid() + through * (1 - gate_out.sigmoid()))
    y, state = memory(x)
    torch.testing.assert_close(y[0].detach(), torch.stack(want))
    torch.testing.assert_close(state["traces"][0].detach(), S)
    assert S.imag.abs().max() > 0.1


def test_ffm_starts_with_its_limits() -> None:
    memory = FFM(D, OUT, 32, 4, horizon=1024)
    rate = memory.log_rate.detach().exp()
    torch.testing.assert_close(torch.exp(-rate[-1] * 1024), torch.tensor(0.01), rtol=1e-3, atol=0)
    torch.testing.assert_close(rate[0], torch.tensor(0.673))
    torch.testing.assert_close(memory.frequency[-1].detach() * 1024, torch.tensor(2 * math.pi))


def test_mingru_is_its_equations() -> None:
    memory, x = MinGRU(D, OUT).double(), some_input()
    h, want = torch.zeros(OUT, dtype=torch.float64), []
    for u in x[0]:
        gate, new = memory.project(u).detach().chunk(2)
        h = (1 - gate.sigmoid()) * h + gate.sigmoid() * new
        want.append(h)
    torch.testing.assert_close(memory(x)[0][0].detach(), torch.stack(want))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: LRU(D, OUT, 0), "state_size is 0"),
        (lambda: LRU(D, OUT, r_min=0.9, r_max=1.0), "r_min is 0.9 and r_max 1.0"),
        (lambda: LRU(D, OUT, max_phase=0.0), "max_phase is 0.0"),
        (lambda: S5(D, OUT, dt_min=0.1, dt_max=0.01), "dt_min is 0.1 and dt_max 0.01"),
        (lambda: FFM(D, OUT, context_size=0), "context_size is 0"),
    ],
)
def test_bad_options(build, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words):
        build()

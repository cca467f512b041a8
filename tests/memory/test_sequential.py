"""Elman's network, IndRNN and LMU against what they are by their papers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hadamem.memory import LMU, Elman, IndRNN
from hadamem.memory.base import clamped
from hadamem.memory.lmu import legendre_delay

T, D, H = 20, 3, 5


def test_elman_is_torchs() -> None:
    memory, cell = Elman(D, H), torch.nn.RNN(D, H, batch_first=True)
    cell.weight_ih_l0.data, cell.weight_hh_l0.data = memory.project.weight.data, memory.recurrent.weight.data
    cell.bias_ih_l0.data, cell.bias_hh_l0.data = memory.project.bias.data, torch.zeros(H)
    x = torch.randn(2, T, D)
    torch.testing.assert_close(memory(x)[0], cell(x)[0])


@pytest.mark.parametrize(("activation", "function"), [("relu", torch.relu), ("tanh", torch.tanh)])
def test_indrnn_is_its_equations(activation: str, function) -> None:  # type: ignore[no-untyped-def]
    memory, x = IndRNN(D, H, activation=activation, horizon=4), torch.randn(1, T, D)
    memory.recurrent.data[0, 0] = 5.0  # beyond its bound
    memory.recurrent.data[0, 1] = -5.0
    u = memory.recurrent.detach().clamp(-(2**0.25), 2**0.25)
    h = torch.zeros(2, H)
    want: list[Tensor] = []
    for now in x[0]:
        for layer, project in enumerate(memory.project):
            now = h[layer] = function(project(now).detach() + u[layer] * h[layer])
        want.append(now.clone())
    torch.testing.assert_close(memory(x)[0][0].detach(), torch.stack(want))


def test_lmu_is_its_equations() -> None:
    memory, x = LMU(D, H, memory_size=7).double(), torch.randn(1, T, D, dtype=torch.float64)
    memory.write.data.normal_(std=0.3)
    sizes = [D, H, 7]
    e_x, e_h, e_m = memory.write.detach()[0].split(sizes)
    W_x, W_h, W_m = memory.hidden.detach().split(sizes, dim=1)
    h, m, want = torch.zeros(H, dtype=torch.float64), torch.zeros(7, dtype=torch.float64), []
    for now in x[0]:
        m = memory.A @ m + memory.B * (e_x @ now + e_h @ h + e_m @ m)
        h = torch.tanh(W_x @ now + W_h @ h + W_m @ m)
        want.append(h)
    y, state = memory(x)
    torch.testing.assert_close(y[0].detach(), torch.stack(want))
    torch.testing.assert_close(state["memory"][0].detach(), m)


def test_lmu_holds_its_last_theta_steps() -> None:
    """The paper's Eq. 3: the shifted Legendre polynomials at r, weighted with m, give the input r theta steps ago."""
    theta, order, steps = 40, 12, 200
    A, B = legendre_delay(order, theta)
    signal = torch.sin(2 * torch.pi * torch.arange(steps, dtype=torch.float64) / 50)
    m = torch.zeros(order, dtype=torch.float64)
    for u in signal:
        m = A @ m + B * u
    for ago in (0, 10, 20, 35):
        z = torch.tensor(2 * ago / theta - 1, dtype=torch.float64)
        read = sum(m[n] * torch.special.legendre_polynomial_p(z, n) for n in range(order))
        assert abs(read - signal[-1 - ago]) < 0.1  # a held input is half a step late


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: IndRNN(D, H, activation="elu"), "activation is 'elu'"),
        (lambda: IndRNN(D, H, layers=0), "layers is 0"),
        (lambda: IndRNN(D, H, horizon=0), "horizon is 0"),
        (lambda: LMU(D, H, theta=0.0), "theta is 0.0"),
    ],
)
def test_bad_options(build, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words):
        build()


def test_a_clamped_parameter_comes_back() -> None:
    """Gradients that lead back within the bounds pass; those that lead further away do not."""
    parameter = torch.tensor([-3.0, 0.5, 3.0], requires_grad=True)
    value = clamped(parameter, -1, 1)
    assert value.tolist() == [-1, 0.5, 1]
    for gradient, want in ((1.0, [0, 1, 1]), (-1.0, [-1, -1, 0])):
        assert torch.autograd.grad(value, parameter, torch.full((3,), gradient), retain_graph=True)[0].tolist() == want


def test_indrnn_learns_from_beyond_its_bound() -> None:
    memory = IndRNN(D, H)
    with torch.no_grad():
        memory.recurrent.fill_(1.01)
    optimiser = torch.optim.Adam([memory.recurrent], lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        memory(torch.ones(2, T, D))[0].square().sum().backward()
        optimiser.step()
    assert (memory.recurrent < memory.limit).any()

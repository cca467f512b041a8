"""GRU and LSTM against torch's own, run on each episode by itself."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from hadamem.memory import GRU, LSTM

B, T, D, H = 3, 75, 4, 5


def episode_by_episode(cell: torch.nn.RNNBase, x: Tensor, states: list[Tensor], start: Tensor) -> list[Tensor]:
    """y and the last states."""
    rows = []
    for b in range(B):
        own, ys = [s[None, b : b + 1] for s in states], []
        for first, end in itertools.pairwise(sorted({0, T, *start[b].nonzero().flatten().tolist()})):
            if start[b, first]:
                own = [torch.zeros_like(s) for s in own]
            y, after = cell(x[b : b + 1, first:end], own[0] if len(own) == 1 else tuple(own))
            own = [after] if len(own) == 1 else list(after)
            ys.append(y)
        rows.append([torch.cat(ys, dim=1), *(s[0] for s in own)])
    return [torch.cat(parts) for parts in zip(*rows, strict=True)]


@pytest.mark.parametrize("probability", [0, 0.03, 0.5])
@pytest.mark.parametrize(("memory_class", "cell_class"), [(GRU, torch.nn.GRU), (LSTM, torch.nn.LSTM)])
def test_they_are_torchs(memory_class: type[GRU | LSTM], cell_class: type[torch.nn.RNNBase], probability: float) -> None:
    memory, cell = memory_class(D, H).double(), cell_class(D, H, batch_first=True).double()
    cell.load_state_dict(memory.rnn.state_dict())
    x = torch.randn(B, T, D, dtype=torch.float64, requires_grad=True)
    states = [torch.randn(B, H, dtype=torch.float64, requires_grad=True) for _ in memory.names]
    start = torch.rand(B, T) < probability
    start[0, 0] = False  # some of the initial states counts
    y, last = memory(x, dict(zip(memory.names, states, strict=True)), start)
    got, want = [y, *last.values()], episode_by_episode(cell, x, states, start)
    torch.testing.assert_close(got, want)
    weights = [torch.randn_like(part) for part in got]
    gradients = [
        torch.autograd.grad(parts, [x, *states, *module.parameters()], weights)
        for parts, module in ((got, memory), (want, cell))
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("memory_class", [GRU, LSTM])
def test_a_gradient_of_nan_stays_behind_the_reset(memory_class: type[GRU | LSTM]) -> None:
    memory, x = memory_class(D, H).double(), torch.randn(1, 8, D, dtype=torch.float64, requires_grad=True)
    start = torch.zeros(1, 8, dtype=torch.bool)
    start[0, 5] = True
    d_y = torch.randn(1, 8, H, dtype=torch.float64)
    clean = torch.autograd.grad(memory(x, memory.initial_state(1), start)[0], x, d_y)[0]
    d_y[0, 6] = torch.nan
    found = torch.autograd.grad(memory(x, memory.initial_state(1), start)[0], x, d_y)[0]
    torch.testing.assert_close(found[:, :5], clean[:, :5])
    torch.testing.assert_close(found[:, 7:], clean[:, 7:])
    assert found[:, 5:7].isnan().all()


def test_long_calls_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, x, start = LSTM(D, H).double(), torch.randn(B, T, D, dtype=torch.float64), torch.rand(B, T) < 0.1
    whole = memory(x, memory.initial_state(B), start)
    monkeypatch.setattr("hadamem.memory.recurrent._PIECE", 7 * B * H)
    torch.testing.assert_close(memory(x, memory.initial_state(B), start), whole)

"""GRU and LSTM against torch's own, run on each episode by itself."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from hadamem.memory import GRU, LSTM
from hadamem.memory.segments import _strides

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


def test_strides_sum_up_to_any_length() -> None:
    for longest in (*range(1, 40), 100, 1024):
        for length in range(1, longest + 1):
            left = length
            for stride in _strides(longest):
                left -= stride if left >= stride else 0
            assert left == 0, (longest, length)

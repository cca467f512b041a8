"""GRU and LSTM: torch's own cells, with resets anywhere inside a row and no Python loop over time.

A row with resets is several independent sequences. They are cut apart and handed to torch as one packed batch (which never
computes a padded step), then put back: fewer steps one after the other and more side by side, so resets cost nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .base import Memory, State


class _Recurrent(Memory):
    """What GRU and LSTM share. `names` are the leaves of the state, each (B, hidden_size)."""

    names: tuple[str, ...]
    cell: type[nn.GRU] | type[nn.LSTM]

    def __init__(self, input_size: int, output_size: int, hidden_size: int | None = None) -> None:
        super().__init__(input_size, output_size)
        self.hidden_size = output_size if hidden_size is None else hidden_size
        self.rnn = self.cell(input_size, self.hidden_size, batch_first=True)
        self.output = nn.Identity() if self.hidden_size == output_size else nn.Linear(self.hidden_size, output_size)

    def initial_state(self, batch_size: int) -> State:
        """Zeros."""
        return {name: self._zeros(batch_size, self.hidden_size) for name in self.names}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        states = [torch.where(start[:, :1], 0, state[name]) for name in self.names]
        if x.shape[1] == 1 or not bool(start[:, 1:].any()):
            y, last = self._run(x, states)
        else:
            y, last = self._run_segments(x, states, start)
        return self.output(y), dict(zip(self.names, last, strict=True))

    def _run(self, x: Tensor | PackedSequence, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        stacked = [s[None].contiguous() for s in states]
        y, last = self.rnn(x, stacked[0] if len(stacked) == 1 else tuple(stacked))
        last = (last,) if isinstance(last, Tensor) else last
        return (y.data if isinstance(y, PackedSequence) else y), [s[0] for s in last]

    def _run_segments(self, x: Tensor, states: list[Tensor], start: Tensor) -> tuple[Tensor, list[Tensor]]:
        B, T, _ = x.shape
        begins = start.clone()
        begins[:, 0] = True
        first = begins.flatten().nonzero().flatten()  # where in (B T) each segment begins
        length = torch.diff(first, append=first.new_tensor([B * T]))
        length, order = length.sort(descending=True, stable=True)
        first = first[order]
        # packed order: the first step of every segment, longest segment first, then every second step, and so on
        step = torch.arange(int(length[0]), device=x.device)
        inside = step[:, None] < length
        place = (first + step[:, None])[inside]
        sizes = inside.sum(dim=1).cpu()
        row, at_zero = first // T, (first % T == 0)[:, None]
        begin = [torch.where(at_zero, s[row], 0) for s in states]
        packed, last = self._run(PackedSequence(x.flatten(0, 1)[place], sizes), begin)
        back = torch.empty_like(place)
        back[place] = torch.arange(B * T, device=x.device)
        final = torch.empty(B, dtype=torch.long, device=x.device)
        ends = (first + length) % T == 0  # each row has one segment that reaches its end
        final[row[ends]] = ends.nonzero().flatten()
        return packed[back].unflatten(0, (B, T)), [s[final] for s in last]


class GRU(_Recurrent):
    """Gated recurrent unit (Cho et al., 2014), torch.nn.GRU's arithmetic.

        z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)          how much is kept
        r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)
        h_t = z_t * h_{t-1} + (1 - z_t) * tanh(W x_t + b + r_t * (U h_{t-1} + c))

    Args:
        input_size: features of x.
        output_size: features of the output.
        hidden_size: of the cell; an output layer follows if it differs from output_size. Default: output_size.

    State: "hidden" (B, hidden_size).
    """

    paper = "Cho et al. 2014, arXiv:1406.1078"
    names = ("hidden",)
    cell = nn.GRU


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber, 1997), torch.nn.LSTM's arithmetic. Arguments as GRU.

        c_t = f_t * c_{t-1} + i_t * tanh(W_c x_t + U_c h_{t-1} + b_c)
        h_t = o_t * tanh(c_t)
        i_t, f_t, o_t = sigmoid(W x_t + U h_{t-1} + b), each with its own W, U, b

    State: "hidden" and "cell" (B, hidden_size).
    """

    paper = "Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735"
    names = ("hidden", "cell")
    cell = nn.LSTM

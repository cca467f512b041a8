"""GRU and LSTM: torch's own fused cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..ops.checks import values_known
from .base import Memory, State, current_weights
from .resets import gather_rows, guard_gradients, with_resets

_SHUT = 1e4  # added to a gate's bias, makes its sigmoid exactly 1, and subtracted, exactly 0
_LARGEST = (
    1e2  # bound on the hidden state before the first step (later |h| <= max(1, |h_0|)): a larger one could overrule _SHUT
)
_PIECE = 400_000  # numbers of the output in one call: with many more, oneDNN's LSTM takes up to 1.5 times as long per step


class _Recurrent(Memory):
    """Base class of GRU and LSTM. `names` are the leaves of the state, each (B, hidden_size); the first leaf is the output.

    `empty` and `keep` give, for each gate, the sign of _SHUT that is added to its bias in an inserted step that empties the
    state, and in one that keeps it (such a step may change the output).
    """

    names: tuple[str, ...]
    cell: type[nn.GRU] | type[nn.LSTM]
    fused: Callable[..., Any]
    empty: tuple[int, ...]
    keep: tuple[int, ...]

    def __init__(self, input_size: int, output_size: int, hidden_size: int | None = None) -> None:
        super().__init__(input_size, output_size)
        self.hidden_size = output_size if hidden_size is None else hidden_size
        self.rnn = self.cell(input_size, self.hidden_size)
        self.output = nn.Identity() if self.hidden_size == output_size else nn.Linear(self.hidden_size, output_size)

    def initial_state(self, batch_size: int) -> State:
        """A state of zeros."""
        return {name: self._zeros(batch_size, self.hidden_size) for name in self.names}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        states = [torch.where(start[:, :1], 0, state[name]) for name in self.names]
        weights = current_weights(self.rnn, "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        if x.shape[1] > 1 and not values_known(x, start, *states, *weights):
            y, *last = self._step_by_step(x, states, weights, start)
        elif x.shape[1] == 1 or not bool(start[:, 1:].any()):
            y, last = self._run(x.transpose(0, 1), states, weights)
            y = y.transpose(0, 1)
        else:
            y, *last = self._run_with_resets(x, states, weights, start)
        return self.output(y), {name: s.to(state[name].dtype) for name, s in zip(self.names, last, strict=True)}

    def _run(self, x: Tensor, states: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x (T, B, D) to y (T, B, H) and the last states."""
        ys, stacked = [], [s[None].contiguous() for s in states]
        pieces = 1 + len(x) * states[0].numel() // _PIECE if x.device.type == "cpu" and len(x) > 1 else 1
        for piece in x.chunk(pieces):
            before = stacked if len(stacked) > 1 else stacked[0]
            y, *stacked = self.fused(piece, before, weights, True, 1, 0.0, self.training, False, False)
            ys.append(y)
        return torch.cat(ys), [s[0] for s in stacked]

    def _run_with_resets(self, x: Tensor, states: list[Tensor], weights: list[Tensor], start: Tensor) -> list[Tensor]:
        """x (B, T, D) to y (B, T, H) and the last states."""

        def slow() -> list[Tensor]:
            return self._step_by_step(x, states, weights, start)

        spread, place = with_resets(x, start)
        rows, last = self._run(spread, states, self._weights_with_kinds(*weights))
        if not bool(rows.sum().isfinite() & (states[0].abs().amax() <= _LARGEST)):
            return slow()
        y = gather_rows(rows.flatten(0, 1), place).unflatten(0, x.shape[:2])
        last[0] = y[:, -1]
        y, *last = guard_gradients(slow, [y, *last], [x, *states, *weights])
        return [y, *(s.clone() for s in last)]  # the caller may change them in place

    def _weights_with_kinds(self, of_x: Tensor, of_hidden: Tensor, bias: Tensor, hidden_bias: Tensor) -> list[Tensor]:
        """The weights, where those for x also take the kind of a step: steps that read x get the bias, others force gates."""
        gates = (_SHUT * bias.new_tensor([self.empty, self.keep])).repeat_interleave(self.hidden_size, 1)
        return [torch.cat([of_x, bias[:, None], gates.T], 1), of_hidden, torch.zeros_like(bias), hidden_bias]

    def _step_by_step(self, x: Tensor, states: list[Tensor], weights: list[Tensor], start: Tensor) -> list[Tensor]:
        """One call per step, with resets by `where`: for values that are not finite, and for calls that torch records or
        transforms."""
        ys = []
        for t in range(x.shape[1]):
            y, states = self._run(x[None, :, t], [torch.where(start[:, t, None], 0, s) for s in states], weights)
            ys.append(y[0])
        return [torch.stack(ys, 1), *states]


class GRU(_Recurrent):
    """Gated recurrent unit (Cho et al., 2014), torch.nn.GRU's arithmetic.

        z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)          how much is kept
        r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)
        h_t = z_t * h_{t-1} + (1 - z_t) * tanh(W x_t + b + r_t * (U h_{t-1} + c))

    Args:
        input_size: features of x.
        output_size: features of the output.
        hidden_size: size of the cell; an output layer follows if it differs from output_size. Default: output_size.

    State: "hidden" (B, hidden_size).
    """

    paper = "Cho et al. 2014, arXiv:1406.1078"
    names = ("hidden",)
    cell = nn.GRU
    fused = staticmethod(torch.gru)
    empty = (-1, -1, 0)  # r and z are 0, and the tanh gets no bias
    keep = (0, 0, 0)  # the output is the state


def _lstm(x: Tensor, states: list[Tensor], weights: list[Tensor], *options: Any) -> Any:
    """torch.lstm, which under autocast on a processor computes in the dtype of its weights: torch would ask oneDNN for half
    precision, and fail where the processor has none."""
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return torch.lstm(x, states, weights, *options)
    with torch.autocast("cpu", enabled=False):
        x, *states = (tensor.to(weights[0].dtype) for tensor in (x, *states))
        return torch.lstm(x, states, weights, *options)


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
    fused = staticmethod(_lstm)
    empty = (-1, -1, 0, 0)  # i and f are 0
    keep = (-1, 1, 0, 0)

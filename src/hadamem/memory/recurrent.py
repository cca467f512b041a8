"""GRU and LSTM: torch's own fused cells."""

from __future__ import annotations

from torch import Tensor, nn

from .base import Memory, State
from .segments import run_with_resets


class _Recurrent(Memory):
    """What GRU and LSTM share. `names` are the leaves of the state, each (B, hidden_size)."""

    names: tuple[str, ...]
    cell: type[nn.GRU] | type[nn.LSTM]

    def __init__(self, input_size: int, output_size: int, hidden_size: int | None = None) -> None:
        super().__init__(input_size, output_size)
        self.hidden_size = output_size if hidden_size is None else hidden_size
        self.rnn = self.cell(input_size, self.hidden_size)
        self.output = nn.Identity() if self.hidden_size == output_size else nn.Linear(self.hidden_size, output_size)

    def initial_state(self, batch_size: int) -> State:
        """Zeros."""
        return {name: self._zeros(batch_size, self.hidden_size) for name in self.names}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        y, last = run_with_resets(self._run, x, [state[name] for name in self.names], start)
        return self.output(y), dict(zip(self.names, last, strict=True))

    def _run(self, x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        stacked = [s[None].contiguous() for s in states]
        y, last = self.rnn(x, stacked[0] if len(stacked) == 1 else tuple(stacked))
        return y, [s[0] for s in ((last,) if isinstance(last, Tensor) else last)]


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

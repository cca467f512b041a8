"""GPT and GTrXL: transformers as memories, with attention over a window of the previous steps."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from ..ops.episodes import episode_steps
from .base import Memory, State
from .window import RelativeWindowAttention, WindowAttention, sine_code, visible

Positions = Literal["sine", "rotary"]
_POSITIONS = get_args(Positions)


class _Layer(nn.Module):
    """Attention, then an MLP, each after a layer norm and added to the residual stream x."""

    def __init__(self, attention: WindowAttention, activation: nn.Module) -> None:
        super().__init__()
        D = attention.size
        self.attention = attention
        self.mlp = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 4 * D), activation, nn.Linear(4 * D, D))

    def forward(self, x: Tensor, cache: Tensor, step: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        y, cache = self.attention(x, cache, step, mask)
        x = x + y
        return x + self.mlp(x), cache


class _Gate(nn.Module):
    """GTrXL's g(x, relu(y)). With the initial b = 2, its output is mostly x."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.from_y = nn.Linear(size, 3 * size, bias=False)
        self.from_x = nn.Linear(size, 2 * size, bias=False)
        self.from_reset_x = nn.Linear(size, size, bias=False)
        self.bias = nn.Parameter(torch.full((size,), 2.0))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        y_r, y_z, y_h = self.from_y(torch.relu(y)).chunk(3, dim=-1)
        x_r, x_z = self.from_x(x).chunk(2, dim=-1)
        z = torch.sigmoid(y_z + x_z - self.bias)
        h = torch.tanh(y_h + self.from_reset_x(torch.sigmoid(y_r + x_r) * x))
        return x + z * (h - x)


class _GatedLayer(_Layer):
    """A layer with gates instead of residual sums."""

    def __init__(self, attention: WindowAttention, activation: nn.Module) -> None:
        super().__init__(attention, activation)
        self.attention_gate, self.mlp_gate = _Gate(attention.size), _Gate(attention.size)

    def forward(self, x: Tensor, cache: Tensor, step: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        y, cache = self.attention(x, cache, step, mask)
        x = self.attention_gate(x, y)
        return self.mlp_gate(x, self.mlp(x)), cache


class _Transformer(Memory):
    """Base class of GPT and GTrXL, which differ only in their layers."""

    def __init__(self, input_size: int, output_size: int, hidden_size: int | None, layers: int, window: int) -> None:
        super().__init__(input_size, output_size)
        for name, value in (("layers", layers), ("window", window)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.hidden_size = output_size if hidden_size is None else hidden_size
        self.window = window
        self.input = nn.Linear(input_size, self.hidden_size)
        self.output = nn.Sequential(nn.LayerNorm(self.hidden_size), nn.Linear(self.hidden_size, output_size))
        self.layers = nn.ModuleList()

    def initial_state(self, batch_size: int) -> State:
        """An empty cache, and step counters of zero."""
        cache = self._zeros(batch_size, len(self.layers), self.window - 1, 2 * self.hidden_size)
        return {"cache": cache, "step": torch.zeros(batch_size, dtype=torch.long, device=cache.device)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        step = episode_steps(start, state["step"])
        mask, x = visible(step, self.window), self.embed(x, step)
        before, after = torch.nan_to_num(state["cache"], 0, 0, 0), []
        for i, layer in enumerate(self.layers):
            x, cache = layer(x, before[:, i], step, mask)
            after.append(cache)
        age = torch.arange(self.window - 2, -1, -1, device=x.device)[:, None]
        of_episode = age <= step[:, -1, None, None, None]
        # the cache is finite, so a product is as good as a selection, and takes a fifth of the time
        return self.output(x), {"cache": torch.stack(after, dim=1) * of_episode, "step": step[:, -1] + 1}

    def embed(self, x: Tensor, step: Tensor) -> Tensor:
        """(B, T, input_size) and the step within the episode (B, T) -> (B, T, D)."""
        return self.input(x)


class GPT(_Transformer):
    """Causal pre-norm transformer (Vaswani et al. 2017, arXiv:1706.03762; Radford et al. 2019) over a window of W steps.

        x = W_in input (+ the sine code of the step within the episode)
        x = x + attention(norm(x))      each step to itself and the W - 1 steps of its episode before it
        x = x + mlp(norm(x))            D -> 4 D, GELU, -> D
        y = W_out norm(x)

    The window is counted in steps, so it does not matter where a sequence is cut into calls. Keys and values are kept, so a
    step of acting costs O(W D) for each layer, in addition to its maps of x.

    Args:
        input_size: features of x.
        output_size: features of the output.
        hidden_size: D. Default: output_size.
        layers: number of pairs of attention and mlp.
        heads: number of heads of each attention, into which D is divided.
        window: W.
        positions: "sine" (a code is added to the input) or "rotary" (keys and queries are rotated).

    State: "cache" (B, layers, W - 1, 2 D), keys and values, zero for steps before the episode; "step" (B,) int64, number of
    steps of the episode so far.
    """

    paper: ClassVar[str] = "Vaswani et al. 2017, arXiv:1706.03762"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int | None = None,
        *,
        layers: int = 1,
        heads: int = 4,
        window: int = 128,
        positions: Positions = "sine",
    ) -> None:
        super().__init__(input_size, output_size, hidden_size, layers, window)
        if positions not in _POSITIONS:
            raise ValueError(f"positions is {positions!r}; it must be one of {', '.join(_POSITIONS)}")
        self.positions = positions
        for _ in range(layers):
            attention = WindowAttention(self.hidden_size, heads, window, rotary=positions == "rotary")
            self.layers.append(_Layer(attention, nn.GELU()))

    def embed(self, x: Tensor, step: Tensor) -> Tensor:
        """See _Transformer; adds the sine code if positions="sine"."""
        x = self.input(x)
        return x + sine_code(step, self.hidden_size, x.dtype) if self.positions == "sine" else x


class GTrXL(_Transformer):
    """Gated transformer-XL (Parisotto et al. 2019, arXiv:1910.06764) over a window of W steps.

        x = W_in input
        x = g(x, relu(attention(norm(x))))      each step to itself and the W - 1 steps of its episode before it
        x = g(x, relu(mlp(norm(x))))            D -> 4 D, relu, -> D
        y = W_out norm(x)
        g(x, y) = (1 - z) x + z tanh(W_h y + U_h (r x)),    r = sigmoid(W_r y + U_r x),    z = sigmoid(W_z y + U_z x - b)

    Attention depends on distances (`RelativeWindowAttention`). As in the paper, each layer attends to its own inputs at the
    W - 1 previous steps. They are kept as keys and values, so that acting need not compute these again, and gradients flow
    through them.

    Args:
        input_size: features of x.
        output_size: features of the output.
        hidden_size: D. Default: output_size.
        layers: number of pairs of attention and mlp.
        heads: number of heads of each attention, into which D is divided.
        window: W.

    State: "cache" (B, layers, W - 1, 2 D), keys and values, zero for steps before the episode; "step" (B,) int64, number of
    steps of the episode so far.
    """

    paper: ClassVar[str] = "Parisotto et al. 2019, arXiv:1910.06764"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int | None = None,
        *,
        layers: int = 1,
        heads: int = 4,
        window: int = 128,
    ) -> None:
        super().__init__(input_size, output_size, hidden_size, layers, window)
        for _ in range(layers):
            self.layers.append(_GatedLayer(RelativeWindowAttention(self.hidden_size, heads, window), nn.ReLU()))

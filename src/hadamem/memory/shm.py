"""Stable Hadamard Memory (arXiv 2410.10132, Section 3.2)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import hadamard_memory
from ..ops.addressing import Heads, address, by_head, turns
from ..ops.episodes import episode_steps
from .base import Memory, State
from .convolution import CausalConvolution

Theta = Literal["random", "centred", "stable", "fixed", "learned"]
FeatureMap = Literal["relu_sum", "softmax"]
Calibration = Literal["tanh", "ones", "random", "fixed", "neural"]
_THETAS, _FEATURE_MAPS, _CALIBRATIONS = get_args(Theta), get_args(FeatureMap), get_args(Calibration)
_HELD = -4.0  # initial b of theta=stable with which a memory hardly erases: softplus(b) is 0.018, beside 0.69 for b = 0


def hashed_rows(clock: Tensor, rows: int) -> Tensor:
    """A uniformly distributed pseudorandom number in [0, rows) for every value of the clock (int64), as a fixed function of it.

    Two rounds of a 32-bit finaliser (multiply, xor-shift), so that neighbouring clocks give unrelated rows.
    """
    mask = 0xFFFFFFFF
    x = (clock ^ (clock >> 32)) & mask
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & mask
    x = ((x ^ (x >> 15)) * 0x735A2D97) & mask
    x = x ^ (x >> 15)
    return (x * rows) >> 32


class SHM(Memory):
    """Stable Hadamard Memory (Le et al. 2025, arXiv:2410.10132, Eqs. 4-8): a matrix written and calibrated element by element.

        M_t = M_{t-1} * C_t + U_t,  y_t = W_o M_t q_t
        C_t = 1 + tanh(theta_t v_c(x_t)^T)       calibration: erases (towards 0) or strengthens (towards 2) each entry
        U_t = eta(x_t) v(x_t) k(x_t)^T           what is written, behind a gate in (0, 1)

    theta_t is a random row of a learned table of `rows` rows, so that successive C_t are uncorrelated and their products
    neither vanish nor explode (Proposition 4). The row is chosen by hashing a clock that is part of the state, so that
    replaying a sequence from a stored state uses the same rows.

    Since the table is learned, its rows may become similar: then the same input, repeated, can multiply an entry by more than 1
    at each step. With u = theta_i v_c,j an entry of C is 1 + tanh(u) = exp(u) / cosh(u), whose logarithm is at most u.
    theta = "centred" makes the mean of u over the rows 0, for any x and any learned weights, so that in the long run no typical
    entry grows. theta = "stable" also bounds the mean of C, and allows calibration to erase on purpose:

        theta_t = s_t a_t - softplus(b),  v_c = relu(.)   of theta=stable: s_t is +-1 at random, a_t a random row, b learned

    Since tanh is odd, the mean of C is at most 1, for any x and any learned weights, and C is 1 where v_c is 0: the products of
    C are a non-negative supermartingale, which exceeds a bound m with probability 1 / m at most, at any length
    (docs/theory.md). At first b is 0, and -4, which hardly erases, in heads that find by time; of several heads that find by
    content, the first has 0, the last -4, and the others are evenly between them.

    The defaults follow the arithmetic of the released code: layer norm on the input, k and q = relu(.) / sum relu(.), no bias
    in any projection, an output layer. One default follows the paper's text, not the released code: the row of theta is random.

    Example:
        >>> memory = SHM(input_size=8, output_size=16, memory_size=24)
        >>> y, state = memory(torch.randn(4, 50, 8))  # 4 sequences of 50 steps
        >>> y, state = memory(torch.randn(4, 1, 8), state)  # and the next step
        >>> y.shape, state["memory"].shape
        (torch.Size([4, 1, 16]), torch.Size([4, 24, 24]))

    Args:
        input_size: D, features of x.
        output_size: features of the output.
        memory_size: H; M is (H, H).
        calibration: "tanh" (the paper), or one of its ablation: "ones" (C = 1), "random" (entries of C_t uniform in (0, 2)),
            "fixed" (1 + tanh of a learned matrix, the same at every step) or "neural" (1 + tanh of a linear map of x to all
            entries). theta and rows are used only by "tanh". The last three hold C of all steps in main memory.
        theta: "random" (the paper); "centred" (the same minus the mean of the table's rows) or "stable", both described above;
            "fixed" (always the first row, as in the released POPGym code); or "learned" (a linear map of x).
        rows: L, number of rows of the table of theta.
        table_scale: factor of the initial entries of the table (which are Xavier's), or, with theta=stable, of the initial map
            of v_c. Far below 1, the memory starts with C near 1 and without the noise of random rows, and learns to calibrate.
        feature_map: feature map of k and q, "relu_sum" (released) or "softmax".
        input_norm: whether there is a layer norm on the input (released). Without it, small changes of the input stay visible.
        read_norm: whether there is a layer norm on h; without it (released), h is of order 1/H and learns slowly.
        read_scale: initial weight of that norm. Far below 1, the shortcut dominates at first, until the memory is useful.
        shortcut: whether a linear map of the (normalised) input is added to h, as in the released agents.
        heads: number of matrices side by side, each with its own maps of x; 1 in the paper.
        lag_heads: number of heads that read by how long ago a value was written: their k and q are unit vectors rotated by the
            step (rotary positions, Su et al. 2021, arXiv:2104.09864), so that k_s . q_t depends on t - s, and distinguishes
            lags of less than lag_heads * H steps. 0 in the paper.
        mirror_heads: number of further heads in which q is rotated the opposite way, so that k_s . q_t depends on t + s: they
            read backwards what was written forwards. 0 in the paper.
        epoch_heads: number of further heads in which k depends on the step alone: entry n of k is 2^-n in the 2^n steps from
            step 2^n - 1 of the episode on, and 0 otherwise. So an observation at the beginning keeps an address of its own,
            however many follow. 0 in the paper.
        convolution: width of a causal convolution over the normalised input, before the maps, with silu after it; 0 (the
            paper): no convolution.
        clamp: bound of every entry of M, which is clamped to +-clamp after each step; None (the paper): no bound. The released
            agents of Wind and Point Robot use 100. There is no fused kernel for it, so all C_t are held in main memory.
        backend: backend of `hadamem.ops.hadamard_memory`.

    State: "memory" (B, heads * H, H), one matrix below the other, and "clock" (B,) int64, which starts at a random number and
    is never reset. With a convolution also "inputs" (B, convolution - 1, D); with heads that find by time also "steps" (B,)
    int64, the number of steps of the episode so far.
    """

    paper: ClassVar[str] = "Le et al. 2025, arXiv:2410.10132"
    size_argument = "memory_size"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        memory_size: int = 32,
        *,
        calibration: Calibration = "tanh",
        theta: Theta = "random",
        rows: int = 128,
        table_scale: float = 1.0,
        feature_map: FeatureMap = "relu_sum",
        input_norm: bool = True,
        read_norm: bool = False,
        read_scale: float = 1.0,
        shortcut: bool = False,
        heads: int = 1,
        lag_heads: int = 0,
        mirror_heads: int = 0,
        epoch_heads: int = 0,
        convolution: int = 0,
        clamp: float | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__(input_size, output_size)
        for name, choice, allowed in (
            ("calibration", calibration, _CALIBRATIONS),
            ("theta", theta, _THETAS),
            ("feature_map", feature_map, _FEATURE_MAPS),
        ):
            if choice not in allowed:
                raise ValueError(f"{name} is {choice!r}; it must be one of {', '.join(allowed)}")
        for name, size in (("memory_size", memory_size), ("rows", rows), ("heads", heads)):
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        if convolution < 0:
            raise ValueError(f"convolution is {convolution}; it must be at least 0")
        by_time = {"lag_heads": lag_heads, "mirror_heads": mirror_heads, "epoch_heads": epoch_heads}
        if min(by_time.values()) < 0 or sum(by_time.values()) > heads:
            given = ", ".join(f"{name} is {number}" for name, number in by_time.items())
            raise ValueError(f"{given}; each must be at least 0, and all together at most heads = {heads}")
        if lag_heads + mirror_heads and memory_size < 2:
            raise ValueError(f"memory_size is {memory_size}; with lag_heads or mirror_heads it must be at least 2")
        if clamp is not None and not clamp > 0:
            raise ValueError(f"clamp is {clamp}; it must be greater than 0, or None")
        self.clamp = clamp
        self.memory_size, self.calibration, self.theta, self.rows = memory_size, calibration, theta, rows
        self.feature_map, self.heads, self.backend = feature_map, heads, backend
        self.of_heads = Heads(
            memory_size,
            lag_heads,
            mirror_heads,
            epoch_heads,
            content=heads - sum(by_time.values()),
            softmax=feature_map == "softmax",
            rectified=calibration == "tanh" and theta == "stable",
        )
        H = memory_size
        self.norm = nn.LayerNorm(input_size) if input_norm else nn.Identity()
        self.convolution = CausalConvolution(input_size, convolution, backend) if convolution else None
        # all maps of x in one matrix product: k, q, v, the gate, and the factors of C
        of_calibration = {"tanh": [H] + [H] * (theta == "learned"), "neural": [H * H]}.get(calibration, [])
        self.sizes = [H, H, H, 1, *of_calibration]
        self.project = nn.Linear(input_size, heads * sum(self.sizes), bias=False)
        if calibration == "tanh" and theta != "learned":
            # Xavier's bound for the whole table, also when only its first row is used
            bound = (1 if theta == "stable" else table_scale) * math.sqrt(6 / (rows + H))
            self.table = nn.Parameter(torch.empty(1 if theta == "fixed" else rows, heads * H).uniform_(-bound, bound))
        self.lag_turns: Tensor | None
        self.mirror_turns: Tensor | None
        for name, number in (("lag_turns", lag_heads), ("mirror_turns", mirror_heads)):
            table = turns(number, H).to(torch.get_default_dtype()) if number else None
            self.register_buffer(name, table, persistent=False)
        self.table_scale = table_scale
        if calibration == "tanh" and theta == "stable":
            # heads that find by time need not forget; of those that find by content, one does
            held = torch.full((heads,), _HELD)
            held[sum(by_time.values()) :] = torch.linspace(0, _HELD, self.of_heads.content)
            self.erasure = nn.Parameter(held.repeat_interleave(H))
            self._scale_calibration()
        if calibration == "fixed":
            self.table = nn.Parameter(torch.randn(heads, H, H) / H)
        self.read_norm = nn.LayerNorm(H) if read_norm else nn.Identity()
        if isinstance(self.read_norm, nn.LayerNorm):
            nn.init.constant_(self.read_norm.weight, read_scale)
        self.shortcut = nn.Linear(input_size, heads * H) if shortcut else None
        self.output = nn.Linear(heads * H, output_size)

    def begin_at(self, state: State, clock: Tensor) -> State:
        """See Memory."""
        return {**state, "clock": clock}

    def initial_state(self, batch_size: int) -> State:
        """An empty memory, and a random clock drawn by torch's global generator."""
        memory = self._wide_zeros(batch_size, self.heads * self.memory_size, self.memory_size)
        state = {"memory": memory, "clock": torch.randint(2**62, (batch_size,)).to(memory.device)}
        if self.of_heads.content < self.heads:
            state["steps"] = torch.zeros_like(state["clock"])
        if self.convolution is not None:
            state["inputs"] = self._zeros(batch_size, self.convolution.width - 1, self.input_size)
        return state

    def recurrent_weights(self) -> list[nn.Parameter]:
        """See Memory: all but those of the layers before and after the matrix, and of the shortcut past it."""
        beside = ("norm.", "convolution.", "shortcut.", "output.")
        return [weight for name, weight in self.named_parameters() if not name.startswith(beside)]

    def initialise_orthogonal(self) -> None:
        """See Memory; each of the maps of x is orthogonal by itself. The table stays as it is."""
        super().initialise_orthogonal()
        with torch.no_grad():
            for of_head in self.project.weight.unflatten(0, (self.heads, -1)):
                for weight in of_head.split(self.sizes):
                    nn.init.orthogonal_(weight)
        if self.calibration == "tanh" and self.theta == "stable":
            self._scale_calibration()

    @torch.no_grad()
    def _scale_calibration(self) -> None:
        """Multiply the maps of v_c, which are the last maps of each head, by table_scale."""
        self.project.weight.unflatten(0, (self.heads, -1))[:, -self.memory_size :] *= self.table_scale

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        x, after = self.norm(x), {"clock": state["clock"] + x.shape[1]}
        if self.convolution is not None:
            x, after["inputs"] = self.convolution(x, state["inputs"], start)
        position = None
        if "steps" in state:
            position = episode_steps(start, state["steps"])
            after["steps"] = position[:, -1] + 1
        k, q, a, maps = address(
            self.project(x), self.of_heads, position, self.lag_turns, self.mirror_turns, backend=self.backend
        )
        clock = state["clock"][:, None] + torch.arange(x.shape[1], device=x.device)
        calibration, factors = self._factors(maps, clock)
        h, memory = hadamard_memory(
            a,
            k.to(a.dtype),  # under autocast, softmax and the table are float32
            q.to(a.dtype),
            calibration=calibration,
            factors=[factor.to(a.dtype) for factor in factors],
            start=start.repeat_interleave(self.heads, dim=0) if self.heads > 1 else start,
            state=state["memory"].unflatten(1, (self.heads, -1)).flatten(0, 1) if self.heads > 1 else state["memory"],
            clamp=self.clamp,
            backend=self.backend,
        )
        h = self.read_norm(h)
        if self.heads > 1:
            h = h.unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2)
            memory = memory.unflatten(0, (-1, self.heads)).flatten(1, 2)
        if self.shortcut is not None:
            h = h + self.shortcut(x)
        return self.output(h), {"memory": memory, **after}

    def _factors(self, maps: Tensor, clock: Tensor) -> tuple[str, list[Tensor]]:
        """The name of the calibration in `hadamard_memory`, and its factors.

        Args:
            maps: the maps of x after the gate, (B * heads, T, R).
            clock: (B, T) int64.
        """
        H, (B, T) = self.memory_size, clock.shape
        match self.calibration:
            case "tanh":
                if self.theta == "learned":
                    v_c, theta = maps.split(H, dim=-1)
                    return "tanh_outer", [theta, v_c]
                return "tanh_outer", [self._theta(clock), maps]
            case "neural":
                return "dense", [1 + torch.tanh(maps.unflatten(-1, (H, H)))]
            case "fixed":
                return "dense", [(1 + torch.tanh(self.table)).repeat(B, 1, 1)[:, None].expand(-1, T, -1, -1)]
            case "random":
                entries = torch.arange(self.heads * H * H, device=clock.device)
                number = hashed_rows(hashed_rows(clock, 2**24)[..., None] * len(entries) + entries, 2**24)
                return "dense", [by_head(number.to(self.output.weight.dtype) * 2**-23, self.heads).unflatten(-1, (H, H))]
        return "ones", []

    def _theta(self, clock: Tensor) -> Tensor:
        """The rows of theta at each step, (B * heads, T, H), from the clock (B, T)."""
        signs = 2 if self.theta == "stable" else 1
        row = torch.zeros_like(clock) if self.theta == "fixed" else hashed_rows(clock, signs * self.rows)
        table: Tensor = self.table
        if self.theta == "centred":
            table = table - table.mean(dim=0)
        elif self.theta == "stable":  # a random row with a random sign, minus the learned erasure
            table = torch.cat([table, -table]) - F.softplus(self.erasure)
        if self.heads > 1:  # each head its own part of the row, head by head, without a copy
            table = table.view(-1, self.memory_size)
            row = (row[:, None] * self.heads + torch.arange(self.heads, device=clock.device)[:, None]).flatten(0, 1)
        return F.embedding(row, table)

"""Deep memories: several memories stacked in residual blocks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .base import Memory, State

_BETWEEN_CLOCKS = 2**40  # distance of the clocks of two layers, in steps: more than an episode has


class GatedMLP(nn.Module):
    """W_o (silu(W_g x) * W_u x) (Shazeer 2020, arXiv:2002.05202), with twice as many hidden features as x has."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.into = nn.Linear(features, 4 * features, bias=False)
        self.out = nn.Linear(2 * features, features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., features) -> (..., features)."""
        gate, up = self.into(x).chunk(2, dim=-1)
        return self.out(F.silu(gate) * up)


class Stack(Memory):
    """Several memories on top of each other in residual blocks, each followed by a gated MLP, with layer norms before both.

        x = x + memory(norm(x))
        x = x + mlp(norm(x))

    Args:
        input_size: features of x; a linear map converts them to output_size features.
        output_size: features of the output and of all blocks.
        memories: the memories, each with output_size input and output features.

    State: the states of all memories, with the number of the memory and a dot before each name.
    """

    def __init__(self, input_size: int, output_size: int, memories: Sequence[Memory]) -> None:
        super().__init__(input_size, output_size)
        self.input = nn.Linear(input_size, output_size)
        self.memories = nn.ModuleList(memories)
        self.norms = nn.ModuleList(nn.LayerNorm(output_size) for _ in range(2 * len(memories)))
        self.mlps = nn.ModuleList(GatedMLP(output_size) for _ in memories)

    def initial_state(self, batch_size: int) -> State:
        """The initial states of all memories."""
        states = (memory.initial_state(batch_size) for memory in self.memories)  # type: ignore[operator]
        return {f"{n}.{name}": leaf for n, state in enumerate(states) for name, leaf in state.items()}

    def begin_at(self, state: State, clock: Tensor) -> State:
        """See Memory; each memory gets different random draws."""
        began: State = {}
        for n, memory in enumerate(self.memories):
            own = memory.begin_at(self._own(state, n), clock + n * _BETWEEN_CLOCKS)  # type: ignore[operator]
            began |= {f"{n}.{name}": leaf for name, leaf in own.items()}
        return began

    @staticmethod
    def _own(state: State, n: int) -> State:
        return {name.removeprefix(f"{n}."): leaf for name, leaf in state.items() if name.startswith(f"{n}.")}

    def recurrent_weights(self) -> list[nn.Parameter]:
        """See Memory."""
        return [weight for memory in self.memories for weight in memory.recurrent_weights()]  # type: ignore[operator]

    def initialise_orthogonal(self) -> None:
        """See Memory; each memory initialises itself by its own method."""
        super().initialise_orthogonal()
        for memory in self.memories:
            memory.initialise_orthogonal()  # type: ignore[operator]

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        x = self.input(x)
        after: State = {}
        for n, (memory, mlp) in enumerate(zip(self.memories, self.mlps, strict=True)):
            y, own = memory(self.norms[2 * n](x), self._own(state, n), start)
            after |= {f"{n}.{name}": leaf for name, leaf in own.items()}
            x = x + y
            x = x + mlp(self.norms[2 * n + 1](x))
        return x, after

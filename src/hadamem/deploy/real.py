"""Memories with complex states, rewritten with real numbers and a loop over steps, for runtimes without complex numbers."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..memory import Memory, State
from ..memory.diagonal import Diagonal
from ..memory.ffm import FFM


class _RealSteps(Memory):
    """A memory whose state is one complex leaf (B, ...), kept as a real leaf (B, ..., 2) of real and imaginary parts."""

    name: str
    decay: Tensor  # (..., 2)

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory.input_size, memory.output_size)
        ((self.name, leaf),) = memory.initial_state(1).items()
        self.shape = leaf.shape[1:]

    def initial_state(self, batch_size: int) -> State:
        """A state of zeros."""
        return {self.name: self._zeros(batch_size, *self.shape, 2)}

    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """See Memory."""
        h, ys = state[self.name], []
        for t in range(x.shape[1]):
            y, h = self.step(x[:, t], self.turned(h, start[:, t]))
            ys.append(y)
        return torch.stack(ys, dim=1), {self.name: h}

    @abstractmethod
    def step(self, x: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
        """From x (B, D) and the decayed state (the result of `turned`) to the output (B, D') and the new state."""

    def turned(self, state: Tensor, start: Tensor) -> Tensor:
        """decay * state, with zero in place of the state where an episode begins."""
        before = torch.where(start.view(-1, *[1] * (len(self.shape) + 1)), 0, state)
        real, imaginary = before.unbind(-1)
        a, b = self.decay.unbind(-1)
        return torch.stack([a * real - b * imaginary, a * imaginary + b * real], dim=-1)


class RealDiagonal(_RealSteps):
    """A `Diagonal` in real numbers, with its current decay and gain as constants."""

    def __init__(self, memory: Diagonal) -> None:
        super().__init__(memory)
        decay, gain = memory.decay_and_gain()
        write = torch.view_as_real(gain[:, None] * torch.view_as_complex(memory.write))  # (N, D, 2)
        self.register_buffer("decay", torch.view_as_real(decay.resolve_conj()).clone())
        self.register_buffer("write", write.transpose(1, 2).flatten(0, 1).clone())
        self.read, self.skip = memory.read, memory.skip

    def step(self, x: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
        """See _RealSteps."""
        assert isinstance(self.write, Tensor)
        h = turned + F.linear(x, self.write).unflatten(-1, (-1, 2))
        return self.read(h.flatten(-2)) + self.skip(x), h


class RealFFM(_RealSteps):
    """An `FFM` in real numbers, with its current decay as a constant."""

    def __init__(self, memory: FFM) -> None:
        super().__init__(memory)
        size = torch.exp(-memory.log_rate.exp())[:, None].expand(-1, memory.context_size)
        decay = torch.polar(size.contiguous(), memory.frequency.expand(memory.trace_size, -1).contiguous())
        self.register_buffer("decay", torch.view_as_real(decay).clone())
        self.sizes, self.project, self.read = memory.sizes, memory.project, memory.read

    def step(self, x: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
        """See _RealSteps."""
        new, gate_in, through, gate_out = self.project(x).split(self.sizes, dim=-1)
        real, imaginary = turned.unbind(-1)
        traces = torch.stack([real + (new * torch.sigmoid(gate_in))[..., None], imaginary], dim=-1)
        gate = torch.sigmoid(gate_out)
        y = F.layer_norm(self.read(traces.flatten(1)), (self.output_size,)) * gate + through * (1 - gate)
        return y, traces


@torch.no_grad()
def with_real_memories(module: nn.Module) -> None:
    """Replace all complex memories in a module by the equivalent memories of this file."""
    for name, child in module.named_children():
        if isinstance(child, Diagonal):
            setattr(module, name, RealDiagonal(child))
        elif isinstance(child, FFM):
            setattr(module, name, RealFFM(child))
        else:
            with_real_memories(child)

"""The contract that every memory obeys, and the little it shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

#: What a memory carries from step to step: every tensor has the batch as its first dimension.
State = dict[str, Tensor]


class Memory(nn.Module, ABC):
    """A sequence model with a state. Acting is a sequence of length one: there is no second code path.

    Call it as `y, state = memory(x, state, start)`:

    * x: (B, T, input_size), float.
    * state: a `State`; default: `initial_state(B)`.
    * start: (B, T) bool, true where x[b, t] is the first observation of an episode. What the state held is replaced by the
      initial one before x[b, t] is used, by selection, so that not even NaN leaks. Default: no resets.
    * y: (B, T, output_size).
    """

    #: Where it comes from: authors, year, arXiv number.
    paper: ClassVar[str] = ""

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        for name, value in (("input_size", input_size), ("output_size", output_size)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.input_size = input_size
        self.output_size = output_size

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """The state before the first observation, on the device and in the dtype of the parameters."""

    @abstractmethod
    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """What a subclass defines: the outputs for all steps and the state after the last, from checked arguments."""

    def forward(self, x: Tensor, state: State | None = None, start: Tensor | None = None) -> tuple[Tensor, State]:
        """(B, T, input_size) -> (B, T, output_size) and the new state; see the class."""
        if x.dim() != 3 or x.shape[-1] != self.input_size:
            raise ValueError(f"x has shape {tuple(x.shape)}; it must be (B, T, {self.input_size})")
        if start is None:
            start = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        elif start.shape != x.shape[:2] or start.dtype != torch.bool:
            raise ValueError(
                f"start has shape {tuple(start.shape)} and dtype {start.dtype}; "
                f"it must be (B, T) = {tuple(x.shape[:2])}, torch.bool"
            )
        if state is None:
            state = self.initial_state(x.shape[0])
        for name, leaf in state.items():
            if leaf.shape[0] != x.shape[0]:
                raise ValueError(f"state[{name!r}] is for a batch of {leaf.shape[0]}; x has a batch of {x.shape[0]}")
        return self.sequence(x, state, start)

    def _zeros(self, *shape: int) -> Tensor:
        like = next(self.parameters())
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def _wide_zeros(self, *shape: int) -> Tensor:
        """At least float32: for what the recurrences sum over an episode."""
        return widened(self._zeros(*shape))[0]

    def _complex_zeros(self, *shape: int) -> Tensor:
        zeros = self._zeros(*shape, 2)
        return as_complex(zeros.flatten(-2))


def widened(*tensors: Tensor) -> list[Tensor]:
    """Half types as float32, which the recurrences compute in; others as they are."""
    return [x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in tensors]


def as_complex(x: Tensor) -> Tensor:
    """(..., 2 N) -> (..., N): neighbours become real and imaginary part. Half types become complex64."""
    return torch.view_as_complex(widened(x)[0].unflatten(-1, (-1, 2)))


def as_real(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(..., N) complex -> (..., 2 N) of `dtype`: the inverse."""
    return torch.view_as_real(x).flatten(-2).to(dtype)

"""The base class that defines the interface of all memories, and helpers that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

#: The state that a memory carries from step to step: tensors by name, with the batch as their first dimension.
State = dict[str, Tensor]


class Memory(nn.Module, ABC):
    """A sequence model with a state. Acting uses the same code as learning, with sequences of length one.

    Call it as `y, state = memory(x, state, start)`:

    * x: (B, T, input_size), float, T >= 1.
    * state: a `State`; default: `initial_state(B)`.
    * start: (B, T) bool, true where x[b, t] is the first observation of an episode. The state is then replaced by the initial
      state before x[b, t] is used. It is replaced by selection, so that not even NaN leaks. Default: no resets.
    * y: (B, T, output_size).
    """

    #: The source of the memory: authors, year, arXiv number.
    paper: ClassVar[str] = ""
    #: The argument of the constructor that sets the memory's size.
    size_argument: ClassVar[str] = "hidden_size"

    _state_shapes: dict[str, tuple[int, ...]] | None = None  # of each leaf, without the batch; None until first needed

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

    def begin_at(self, state: State, clock: Tensor) -> State:
        """A state whose random draws are determined by a clock, so that a replayed episode has the same draws.

        Args:
            state: a state of B rows, which is not changed.
            clock: (B,) int64, the number of the first draw; each step adds one.

        Returns:
            The state with that clock. Memories without random draws return the state unchanged.
        """
        return state

    @abstractmethod
    def sequence(self, x: Tensor, state: State, start: Tensor) -> tuple[Tensor, State]:
        """The outputs for all steps and the state after the last one, from checked arguments; to be defined by subclasses."""

    def forward(self, x: Tensor, state: State | None = None, start: Tensor | None = None) -> tuple[Tensor, State]:
        """(B, T, input_size) -> (B, T, output_size) and the new state; see the class.

        Raises:
            ValueError: a shape does not fit, or the state belongs to another memory; the message says what is required.
            TypeError: x is not a tensor, or the state not a dict of tensors.
        """
        if not isinstance(x, Tensor):
            raise TypeError(
                f"x is a {type(x).__name__}; it must be a tensor (B, T, {self.input_size}). "
                "Put episodes of different lengths one after the other in a row, and mark their first steps in start"
            )
        if x.dim() != 3 or x.shape[-1] != self.input_size:
            raise ValueError(f"x has shape {tuple(x.shape)}; it must be (B, T, {self.input_size})")
        B, T = x.shape[:2]
        if T == 0:
            raise ValueError(f"x has shape {tuple(x.shape)}; it must have at least one step, T >= 1")
        if start is None:
            start = torch.zeros(B, T, dtype=torch.bool, device=x.device)
        elif start.shape != x.shape[:2] or start.dtype != torch.bool:
            raise ValueError(
                f"start has shape {tuple(start.shape)} and dtype {start.dtype}; it must be (B, T) = {(B, T)}, torch.bool"
            )
        if state is None:
            state = self.initial_state(B)
        else:
            self._check_state(state, B)
        if B == 0:  # compute one row of zeros and drop it, so that dtypes are right and parameters get a gradient of zero
            x, start, state = _one_row(x), _one_row(start), {name: _one_row(leaf) for name, leaf in state.items()}
            y, state = self.sequence(x, state, start)
            return y[:0], {name: leaf[:0] for name, leaf in state.items()}
        return self.sequence(x, state, start)

    def recurrent_weights(self) -> list[nn.Parameter]:
        """The weights that decide what is written, kept and read, so that their changes add up over the steps of an episode:
        all, except in memories that have maps beside the recurrence."""
        return list(self.parameters())

    def initialise_orthogonal(self) -> None:
        """Initialise all linear maps and recurrent cells again, with orthogonal weights and biases of 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.RNNBase):
                for name, parameter in module.named_parameters(recurse=False):
                    if name.startswith("bias"):
                        nn.init.zeros_(parameter)
                    else:
                        nn.init.orthogonal_(parameter)

    def _check_state(self, state: State, batch_size: int) -> None:
        """Raise an error unless the state has the leaves of this memory, each with `batch_size` rows."""
        shapes = self._state_shapes
        if shapes is None:
            with torch._C._DisableFuncTorch():  # torch.func.vmap may forbid random numbers, even a tensor of 0 of them
                shapes = {name: tuple(leaf.shape[1:]) for name, leaf in self.initial_state(0).items()}
            if not torch.compiler.is_compiling():
                self._state_shapes = shapes
        if isinstance(state, Mapping) and all(isinstance(leaf, Tensor) for leaf in state.values()):
            found = {name: tuple(leaf.shape) for name, leaf in state.items()}
            if found == {name: (batch_size, *shape) for name, shape in shapes.items()}:
                return
            error: type[Exception] = ValueError
            what = f"has {_described(found)}"
        else:
            error, what = TypeError, f"is a {type(state).__name__}"
        wanted = _described({name: (batch_size, *shape) for name, shape in shapes.items()})
        raise error(
            f"state {what}; the state of {type(self).__name__} is a dict of tensors: {wanted} (initial_state makes one)"
        )

    def _any_parameter(self) -> Tensor:
        """Any parameter of the memory. A replica made by DataParallel has only copies, which `parameters` does not list."""
        for module in self.modules():
            for parameter in (*module._parameters.values(), *getattr(module, "_former_parameters", {}).values()):
                if parameter is not None:
                    return parameter
        raise RuntimeError(f"{type(self).__name__} has no parameters; its state needs one that says its dtype and device")

    def _zeros(self, *shape: int) -> Tensor:
        like = self._any_parameter()
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def _wide_zeros(self, *shape: int) -> Tensor:
        """Zeros in at least float32, for states in which recurrences sum over an episode."""
        return widened(self._zeros(*shape))[0]

    def _complex_zeros(self, *shape: int) -> Tensor:
        zeros = self._zeros(*shape, 2)
        return as_complex(zeros.flatten(-2))


def _one_row(x: Tensor) -> Tensor:
    """Append a row of zeros to a tensor without rows."""
    return torch.cat([x, x.new_zeros(1, *x.shape[1:])])


def _described(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "no leaves"


def current_weights(module: nn.Module, *names: str) -> list[Tensor]:
    """Weights of a module that is not called itself, after running its forward hooks, in which pruning sets its weights."""
    for hook in module._forward_pre_hooks.values():
        hook(module, ())
    return [getattr(module, name) for name in names]


def clamped(parameter: Tensor, low: float, high: float) -> Tensor:
    """A parameter clamped to bounds. Unlike torch.clamp, a parameter beyond a bound keeps gradients that lead back inside."""
    return _Clamped.apply(parameter, low, high) if torch.is_grad_enabled() else parameter.clamp(low, high)


class _Clamped(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(parameter: Tensor, low: float, high: float) -> Tensor:
        return parameter.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        parameter, ctx.low, ctx.high = inputs
        ctx.save_for_backward(parameter)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (parameter,) = ctx.saved_tensors
        away = ((parameter > ctx.high) & (gradient < 0)) | ((parameter < ctx.low) & (gradient > 0))
        return gradient.masked_fill(away, 0), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, low: None, high: None) -> Tensor:
        return tangent.clone()


def widened(*tensors: Tensor) -> list[Tensor]:
    """Convert half-precision tensors to float32, in which the recurrences compute; others are returned unchanged."""
    return [x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in tensors]


def as_complex(x: Tensor) -> Tensor:
    """(..., 2 N) -> (..., N): neighbours become real and imaginary part. Half precision becomes complex64."""
    return torch.view_as_complex(widened(x)[0].unflatten(-1, (-1, 2)))


def as_real(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(..., N) complex -> (..., 2 N) of `dtype`: the inverse of `as_complex`."""
    return torch.view_as_real(x).flatten(-2).to(dtype)

"""What is no plain tensor must not reach the kernels' raw addresses: transforms, recorded calls, tensors without memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from hadamem.ops import checks, hadamard_memory, linear_recurrence, reference, slstm

B, T, N = 2, 5, 4
Function = Callable[[Tensor], Tensor]


def hadamard(x: Tensor) -> Tensor:
    return hadamard_memory(x, x.exp(), x.cos(), factors=(x, x.sin()))[0]


def linear(x: Tensor) -> Tensor:
    return linear_recurrence(x.sigmoid(), x)[0]


def linear_complex(x: Tensor) -> Tensor:
    return torch.view_as_real(linear_recurrence(torch.polar(x.sigmoid(), x), torch.complex(x, x.exp()))[0]).sum(-1)


def scalar_memory(x: Tensor) -> Tensor:
    start = torch.zeros(x.shape[:2], dtype=torch.bool)
    return slstm(x.repeat(1, 1, 4).unflatten(-1, (1, 4, N)), torch.eye(N).repeat(1, 4)[None], start, torch.zeros(B, 4, 1, N))[
        0
    ].flatten(2)


FUNCTIONS = [hadamard, linear, linear_complex, scalar_memory]
OPERATORS = FUNCTIONS[:3]


def some_input() -> Tensor:
    return torch.randn(B, T, N)


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_transforms_of_torch_func(function: Function) -> None:
    x = some_input()
    same(torch.func.functionalize(function)(x), function(x))
    same(torch.func.vmap(function)(torch.stack([x, 2 * x]))[1], function(2 * x))
    want = torch.autograd.functional.jacobian(function, x)
    same(torch.func.jacrev(function)(x), want)
    same(torch.func.jacfwd(function)(x), want)


@pytest.mark.parametrize("function", OPERATORS)
def test_gradients_that_are_batched(function: Function) -> None:
    """autograd's own vmap runs over the backward pass of a graph that the kernels made."""
    x = some_input()
    want = torch.autograd.functional.jacobian(function, x)
    same(torch.autograd.functional.jacobian(function, x, vectorize=True), want)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_forward_mode_differentiation(function: Function) -> None:
    x, direction = some_input(), some_input()
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(x, direction))).tangent
    jacobian = torch.autograd.functional.jacobian(function, x)
    same(tangent, torch.einsum("btnijk,ijk->btn", jacobian, direction))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_recorded_calls_compute_with_later_inputs(function: Function) -> None:
    x, other = some_input(), some_input()
    same(torch.jit.trace(function, (x,), check_trace=False)(other), function(other))
    for mode in ("real", "fake", "symbolic"):
        if function is not scalar_memory:  # its constants are no fake tensors
            same(make_fx(function, tracing_mode=mode)(x)(other), function(other))


@pytest.mark.parametrize("function", OPERATORS)
def test_export_with_any_length(function: Function) -> None:
    class Module(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    x = torch.randn(B, T + 3, N)
    program = torch.export.export(Module(), (some_input(),), dynamic_shapes={"x": {1: torch.export.Dim("T")}})
    same(program.module()(x), function(x))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_fake_tensors_have_shapes_only(function: Function) -> None:
    want = function(some_input())
    with FakeTensorMode():
        x = torch.randn(B, T, N, requires_grad=True)
        y = function(x)
        y.sum().backward()
    assert (y.shape, y.dtype) == (want.shape, want.dtype)
    assert x.grad is not None
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("function", OPERATORS)
def test_tensors_without_memory_or_with_another_value_in_it(function: Function) -> None:
    x = some_input()
    same(function(torch._efficientzerotensor(B, T, N)), function(torch.zeros(B, T, N)))
    same(function(torch._neg_view(x)), function(-x))


@pytest.mark.parametrize("function", OPERATORS)
def test_subclasses_stay_themselves(function: Function) -> None:
    class Marked(torch.Tensor):
        pass

    x = some_input()
    y = function(x.as_subclass(Marked))
    assert type(y) is Marked
    same(y.as_subclass(Tensor), function(x))


def test_which_way_is_taken() -> None:
    x = some_input()
    assert checks.route(x, torch.nn.Parameter(x)) == "kernels"
    with torch.inference_mode():
        assert checks.route(x.clone()) == "kernels"
    with FakeTensorMode():
        assert checks.route(torch.zeros(1)) == "operator"
    assert checks.route(torch._efficientzerotensor(1)) == "operator"
    ways = []
    torch.func.vmap(lambda row: ways.append(checks.route(row)) or row)(x)
    assert ways == ["reference"]


def test_gradients_of_the_reference() -> None:
    def function(x: Tensor, y: Tensor, unused: Tensor) -> tuple[Tensor, Tensor]:
        return x * y, x.square()

    x, y, dx, dy = (torch.randn(3) for _ in range(4))
    got = reference.gradients(function, (x, y, y), (dx, dy))
    for found, want in zip(got, (dx * y + 2 * x * dy, dx * x, torch.zeros(3)), strict=True):
        same(found, want)

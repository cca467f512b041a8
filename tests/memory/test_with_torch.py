"""What torch does to modules, done to every memory: half precision, compilation, transforms, replicas, pruning."""

from __future__ import annotations

import pytest
import torch
from contract import CASES, OUT, SIZE, D, build, close, some_state, starts
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import prune

from hadamem.memory import make_memory


@pytest.mark.parametrize("case", CASES)
def test_under_autocast_and_in_half_precision(case: str) -> None:
    """What it gives is close to the float32 result, it learns from it, and the state keeps its dtype."""
    memory = build(case, torch.float32)
    x, start = torch.randn(2, 9, D), starts(2, 9)
    state = memory.initial_state(2)
    want, after = memory(x, state, start)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, mixed_after = memory(x, state, start)
    mixed.float().sum().backward()
    memory.bfloat16()
    state = {n: leaf if leaf.dtype == torch.int64 else leaf.to(memory.initial_state(2)[n].dtype) for n, leaf in state.items()}
    half, half_after = memory(x.bfloat16(), state, start)
    assert {n: leaf.dtype for n, leaf in mixed_after.items()} == {n: leaf.dtype for n, leaf in after.items()}
    assert {n: leaf.dtype for n, leaf in half_after.items()} == {n: leaf.dtype for n, leaf in state.items()}
    for got in (mixed, half):
        torch.testing.assert_close(got.float(), want, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("case", CASES)
def test_compiled_equals_eager(case: str) -> None:
    memory = build(case, torch.float32)
    x, state, start = torch.randn(2, 5, D), some_state(memory, 2), starts(2, 5, 0.4)  # short: loops over time are unrolled
    torch._dynamo.reset()
    compiled = torch.compile(memory, backend="aot_eager")
    results = []
    for function in (memory, compiled):
        inputs = x.clone().requires_grad_()
        y, last = function(inputs, state, start)
        results.append((y, last, torch.autograd.grad(y.square().sum(), inputs)[0]))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_fake_tensors_have_shapes_only(case: str) -> None:
    name, options = CASES[case]
    with FakeTensorMode():
        memory = make_memory(name, D, OUT, SIZE, **options)
        y, state = memory(torch.randn(2, 7, D), memory.initial_state(2), torch.zeros(2, 7, dtype=torch.bool))
        y.sum().backward()
    assert y.shape == (2, 7, OUT)
    assert {n: x.shape for n, x in state.items()} == {n: x.shape for n, x in build(case).initial_state(2).items()}


@pytest.mark.parametrize("case", CASES)
def test_transforms_of_torch_func(case: str) -> None:
    memory = build(case)
    x, state, start = torch.randn(2, 5, D, dtype=torch.float64), some_state(memory, 2), starts(2, 5)

    def loss(x: Tensor) -> Tensor:
        return memory(x, state, start)[0].square().sum()

    inputs = x.clone().requires_grad_()
    want = torch.autograd.grad(loss(inputs), inputs)[0]
    close(torch.func.grad(loss)(x), want)
    if CASES[case][0] != "indrnn":  # torch refuses: an autograd.Function has no rule for it
        close(torch.func.functionalize(loss)(x).detach(), loss(x).detach())
    if CASES[case][0] not in ("gpt", "gtrxl"):  # torch refuses: its attention has no forward-mode derivative
        _, tangent = torch.func.jvp(loss, (x,), (torch.ones_like(x),))
        close(tangent.detach(), want.sum())


@pytest.mark.parametrize("case", CASES)
def test_a_traced_memory_looks_at_later_starts(case: str) -> None:
    memory = build(case, torch.float32).requires_grad_(False)
    state, start = some_state(memory, 2), torch.zeros(2, 5, dtype=torch.bool)
    with pytest.warns(torch.jit.TracerWarning):
        traced = torch.jit.trace(lambda x, start: memory(x, state, start)[0], (torch.randn(2, 5, D), start), check_trace=False)
    x, start = torch.randn(2, 5, D), torch.tensor([[0, 0, 1, 0, 0], [1, 0, 0, 0, 1]]).bool()
    torch.testing.assert_close(traced(x, start), memory(x, state, start)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_under_float64_as_default(case: str) -> None:
    name, options = CASES[case]
    torch.set_default_dtype(torch.float64)
    try:
        memory = make_memory(name, D, OUT, SIZE, **options)
        y, state = memory(torch.randn(2, 7, D), None, starts(2, 7))
    finally:
        torch.set_default_dtype(torch.float32)
    tensors = [y, *memory.parameters(), *memory.buffers(), *state.values()]
    assert {x.dtype for x in tensors} <= {torch.float64, torch.complex128, torch.int64}


@pytest.mark.parametrize("case", CASES)
def test_a_replica_of_data_parallel(case: str) -> None:
    """It has copies of the parameters as attributes, and no parameters."""
    memory = build(case)
    copies = {}
    for name, module in memory.named_modules():
        replica = copies[name] = module._replicate_for_data_parallel()
        replica._former_parameters = {n: p.detach().clone() for n, p in module._parameters.items() if p is not None}
        for n, parameter in module._parameters.items():
            if parameter is None:
                replica.register_parameter(n, None)
            else:
                setattr(replica, n, replica._former_parameters[n])
        parent, _, own = name.rpartition(".")
        if name:
            setattr(copies[parent], own, replica)
    x, start, state = torch.randn(2, 7, D, dtype=torch.float64), starts(2, 7), some_state(memory, 2)
    assert not list(copies[""].parameters())
    close(copies[""](x, state, start)[0], memory(x, state, start)[0].detach())
    assert {n: (s.shape, s.dtype) for n, s in copies[""](x)[1].items()} == {n: (s.shape, s.dtype) for n, s in state.items()}


@pytest.mark.parametrize("case", CASES)
def test_pruned_weights_stay_so_while_the_memory_learns(case: str) -> None:
    """Pruning sets what is left of a weight in a hook of its module, whether the memory calls that or looks at its weights."""
    memory, plain = build(case), build(case)
    x, start, state = torch.randn(2, 6, D, dtype=torch.float64), starts(2, 6), some_state(memory, 2)
    for module in list(memory.modules()):
        for name, weight in list(module._parameters.items()):
            if weight is not None and weight.dim() > 1:
                prune.l1_unstructured(module, name, 0.3)
    for _ in range(2):
        y = memory(x, state, start)[0]
        loss = y.square().sum()
        gradients = torch.autograd.grad(loss, list(memory.parameters()), materialize_grads=True, allow_unused=True)
        with torch.no_grad():
            for name, weight in plain.named_parameters():
                owner, _, own = name.rpartition(".")
                module = memory.get_submodule(owner)
                pruned = module._parameters.get(f"{own}_orig")
                weight.copy_(module._parameters[own] if pruned is None else pruned * getattr(module, f"{own}_mask"))
            close(y.detach(), plain(x, state, start)[0])
            for weight, gradient in zip(memory.parameters(), gradients, strict=True):
                weight -= 0.01 * gradient


@pytest.mark.parametrize("way", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize(("name", "cell"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_reparametrised_cells(name: str, cell: type[nn.GRU] | type[nn.LSTM], way: str) -> None:
    memory = build(name, torch.float32)
    getattr(nn.utils.parametrizations, way)(memory.rnn, "weight_hh_l0")
    memory.eval()
    plain = cell(D, SIZE, batch_first=True)
    plain.load_state_dict({n: getattr(memory.rnn, n).detach() for n in plain.state_dict()})
    x = torch.randn(2, 7, D)
    torch.testing.assert_close(memory(x)[0], memory.output(plain(x)[0]))

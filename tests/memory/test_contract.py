"""The contract of memories, held over the whole registry."""

from __future__ import annotations

import copy
import io
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import prune

from hadamem.memory import MEMORIES, Memory, State, make_memory

D, OUT, SIZE = 5, 6, 8

#: Every memory by name, and options that change its arithmetic.
CASES: dict[str, tuple[str, dict]] = {name: (name, {}) for name in MEMORIES}
CASES |= {
    "shm fixed theta": ("shm", {"theta": "fixed"}),
    "shm learned theta": ("shm", {"theta": "learned"}),
    "shm softmax, read norm, shortcut": ("shm", {"feature_map": "softmax", "read_norm": True, "shortcut": True}),
    "two layers of shm": ("shm", {"layers": 2}),
    "two layers of mamba": ("mamba", {"layers": 2}),
    "shm C = 1": ("shm", {"calibration": "ones"}),
    "shm random C": ("shm", {"calibration": "random"}),
    "shm fixed C": ("shm", {"calibration": "fixed"}),
    "shm neural C": ("shm", {"calibration": "neural"}),
    "shm heads, convolution": ("shm", {"heads": 3, "convolution": 4, "theta": "learned"}),
    "shm two heads": ("shm", {"heads": 2}),
    "shm lags": ("shm", {"heads": 3, "lag_heads": 2, "theta": "centred"}),
    "shm lags, mirror": ("shm", {"heads": 3, "lag_heads": 1, "mirror_heads": 1}),
    "shm parallel": ("shm", {"backend": "parallel"}),
    "shm centred": ("shm", {"theta": "centred"}),
    "shm reference": ("shm", {"backend": "reference"}),
    "indrnn tanh": ("indrnn", {"activation": "tanh"}),
    "slstm exponential forget gate": ("slstm", {"forget_gate": "exponential"}),
    "fwp sum": ("fwp", {"rule": "sum"}),
    "delta_net heads": ("delta_net", {"heads": 3}),
    "framestack": ("framestack", {"frames": 6}),  # the tests of memory look five steps back
    "gpt rotary, deep, short window": ("gpt", {"positions": "rotary", "window": 5, "layers": 2}),
    "gtrxl deep, short window": ("gtrxl", {"window": 5, "layers": 2}),
    "gtrxl no window": ("gtrxl", {"window": 1}),
}
REMEMBERS = [case for case in CASES if case not in ("mlp", "positional_mlp", "gtrxl no window")]

#: Accuracy to reach in the recall task, if less than 0.6 (chance is 0.25). Units that see of the past only themselves, with a
#: real factor, are slow to learn how to tell the fourth step back from the third.
RECALL = {"mingru": 0.45, "indrnn": 0.45, "indrnn tanh": 0.45}


def build(case: str, dtype: torch.dtype = torch.float64) -> Memory:
    torch.manual_seed(3)
    name, options = CASES[case]
    return make_memory(name, D, OUT, SIZE, **options).to(dtype)


def some_state(memory: Memory, batch_size: int) -> State:
    """A state as it is in the middle of a sequence."""
    x = torch.randn(batch_size, 7, D, dtype=next(memory.parameters()).dtype)
    return {name: leaf.detach() for name, leaf in memory(x)[1].items()}


def differentiable(leaf: Tensor) -> bool:
    return leaf.is_floating_point() or leaf.is_complex()


def starts(B: int, T: int, probability: float = 0.15) -> Tensor:
    return torch.rand(B, T) < probability


def close(got: Tensor | State, want: Tensor | State) -> None:
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("case", CASES)
def test_shapes(case: str) -> None:
    memory = build(case)
    for B, T in ((1, 1), (1, 9), (4, 1), (3, 10)):
        state = memory.initial_state(B)
        y, after = memory(torch.randn(B, T, D, dtype=torch.float64), state, starts(B, T))
        assert y.shape == (B, T, OUT)
        assert {n: (x.shape, x.dtype) for n, x in after.items()} == {n: (x.shape, x.dtype) for n, x in state.items()}
        assert all(leaf.shape[0] == B for leaf in state.values())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cuts", [[1] * 23, [5, 1, 17], [22, 1], [8, 8, 7]])
def test_any_cut_into_chunks_equals_the_whole(case: str, cuts: list[int]) -> None:
    memory = build(case)
    x, start = torch.randn(3, sum(cuts), D, dtype=torch.float64), starts(3, sum(cuts))
    state = some_state(memory, 3)
    want, last = memory(x, state, start)
    parts, at = [], 0
    for cut in cuts:
        y, state = memory(x[:, at : at + cut], state, start[:, at : at + cut])
        parts.append(y)
        at += cut
    close(torch.cat(parts, dim=1), want)
    close(state, last)


@pytest.mark.parametrize("case", CASES)
def test_float32_steps_equal_the_sequence(case: str) -> None:
    """The fused kernels work in float32 only."""
    memory = build(case, torch.float32)
    x, start, state = torch.randn(3, 40, D), starts(3, 40), some_state(memory, 3)
    want, last = memory(x, state, start)
    for t in range(40):
        with torch.no_grad():
            y, state = memory(x[:, t : t + 1], state, start[:, t : t + 1])
        torch.testing.assert_close(y, want[:, t : t + 1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_resets_equal_separate_rows(case: str) -> None:
    """Rows with resets at staggered places: each episode is as if it had a row of its own."""
    memory = build(case)
    B, T = 4, 19
    x, start = torch.randn(B, T, D, dtype=torch.float64), torch.zeros(B, T, dtype=torch.bool)
    for b, places in enumerate([[0, 5], [1, 2, 18], [], [9]]):
        start[b, places] = True
    state = some_state(memory, B)
    got, last = memory(x, state, start)
    for b in range(B):
        bounds = sorted({0, T, *start[b].nonzero().flatten().tolist()})
        for first, end in itertools.pairwise(bounds):
            own = memory.initial_state(1) if start[b, first] else {n: leaf[b : b + 1] for n, leaf in state.items()}
            own |= {n: state[n][b : b + 1] + first for n in own if n.endswith("clock")}  # it goes on through resets
            y, own_last = memory(x[b : b + 1, first:end], own)
            close(y[0], got[b, first:end])
        close({n: leaf[0] for n, leaf in own_last.items()}, {n: leaf[b] for n, leaf in last.items()})


@pytest.mark.parametrize("case", CASES)
def test_nothing_leaks_through_a_reset(case: str) -> None:
    """NaN in the state and in x before a reset changes neither values nor gradients after it."""
    memory = build(case)
    x, start = torch.randn(2, 11, D, dtype=torch.float64), torch.zeros(2, 11, dtype=torch.bool)
    start[0, 0] = start[1, 6] = True
    state = some_state(memory, 2)

    def run(poison: bool) -> tuple[Tensor, Tensor, Tensor]:
        inputs, before = x.clone(), copy.deepcopy(state)
        if poison:
            inputs[1, :6] = torch.nan
            for leaf in before.values():
                if differentiable(leaf):
                    leaf[:] = complex(torch.nan, torch.nan) if leaf.is_complex() else torch.nan
        inputs.requires_grad_()
        y, _ = memory(inputs, before, start)
        loss = y[0].square().sum() + y[1, 6:].square().sum()
        gradient = torch.autograd.grad(loss, inputs)[0]
        return torch.cat([y[0], y[1, 6:]]).detach(), gradient[0], gradient[1, 6:]

    for clean, poisoned in zip(run(False), run(True), strict=True):
        close(poisoned, clean)


@pytest.mark.parametrize("case", CASES)
def test_what_overflows_does_not_leak_through_a_reset(case: str) -> None:
    """Finite numbers in x before a reset, however large, change neither values nor gradients after it."""
    memory = build(case, torch.float32)
    x, start = torch.randn(2, 11, D), torch.zeros(2, 11, dtype=torch.bool)
    start[:, 6] = True
    state = some_state(memory, 2)
    results = []
    for large in (1.0, 1e19, 1e38):
        inputs = x.clone()
        inputs[1, 2] *= large
        inputs.requires_grad_()
        y, _ = memory(inputs, state, start)
        gradient = torch.autograd.grad(y[:, 6:].square().sum(), inputs)[0]
        results.append((y[:, 6:].detach(), gradient[:, 6:]))
    for got in results[1:]:
        torch.testing.assert_close(got, results[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("T", [1, 6])
def test_the_returned_state_may_be_changed_in_place(case: str, T: int) -> None:
    """Neither y, nor its gradient, nor the state before is another for it."""
    memory = build(case, torch.float32)
    x, start = torch.randn(2, T, D), torch.zeros(2, T, dtype=torch.bool)
    start[0, T // 2] = True
    state, results = some_state(memory, 2), []
    before = copy.deepcopy(state)
    for change in (False, True):
        inputs = x.clone().requires_grad_()
        y, after = memory(inputs, state, start)
        if change:
            with torch.no_grad():
                for leaf in after.values():
                    leaf.fill_(7)
        results.append((y.detach(), torch.autograd.grad(y.square().sum(), inputs)[0]))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)
    torch.testing.assert_close(state, before, rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_right(case: str) -> None:
    """For x, the parameters and the initial state, through resets."""
    memory = build(case)
    names, parameters = zip(*memory.named_parameters(), strict=True)
    start = torch.zeros(2, 4, dtype=torch.bool)
    start[1, 2] = True
    state = some_state(memory, 2)
    floating = [n for n, leaf in state.items() if differentiable(leaf)]

    def function(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        leaves, values = rest[: len(floating)], dict(zip(names, rest[len(floating) :], strict=True))
        before = state | dict(zip(floating, leaves, strict=True))
        y, after = torch.func.functional_call(memory, values, (x, before, start))
        return (y, *(after[n] for n in floating))

    inputs = (torch.randn(2, 4, D, dtype=torch.float64), *(state[n] for n in floating), *parameters)
    assert torch.autograd.gradcheck(
        function, tuple(x.detach().clone().requires_grad_() for x in inputs), fast_mode=True, atol=1e-6
    )


@pytest.mark.parametrize("case", CASES)
def test_non_contiguous_input(case: str) -> None:
    memory = build(case)
    x, start = torch.randn(9, 3, 2 * D, dtype=torch.float64), starts(9, 3)
    state = some_state(memory, 3)
    got = memory(x[..., ::2].transpose(0, 1), state, start.T)[0]
    close(got, memory(x[..., ::2].transpose(0, 1).contiguous(), state, start.T.contiguous())[0])


@pytest.mark.parametrize("case", REMEMBERS)
def test_it_has_a_memory(case: str) -> None:
    """The first input changes the last output, and not if a reset lies between."""
    memory = build(case)
    x = torch.randn(1, 6, D, dtype=torch.float64)
    other = x.clone()
    other[:, 0, 0] += 1  # not all features alike: layer norm would take that out
    state, start = some_state(memory, 1), torch.zeros(1, 6, dtype=torch.bool)
    assert (memory(x, state, start)[0] - memory(other, state, start)[0])[:, -1].abs().max() > 1e-9
    start[:, 3] = True
    close(memory(x, state, start)[0][:, 3:], memory(other, state, start)[0][:, 3:])


@pytest.mark.parametrize("case", CASES)
def test_save_and_load(case: str) -> None:
    memory, other = build(case), make_memory(CASES[case][0], D, OUT, SIZE, **CASES[case][1]).double()
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x, state = torch.randn(2, 5, D, dtype=torch.float64), some_state(memory, 2)
    close(other(x, state)[0], memory(x, state)[0])


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
    x, state, start = torch.randn(2, 9, D), some_state(memory, 2), starts(2, 9)
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


@pytest.mark.parametrize("case", CASES)
def test_no_rows_and_no_steps(case: str) -> None:
    memory = build(case)
    x = torch.zeros(0, 5, D, dtype=torch.float64, requires_grad=True)
    y, state = memory(x)
    assert y.shape == (0, 5, OUT)
    assert {n: (s.shape, s.dtype) for n, s in state.items()} == {
        n: (s.shape, s.dtype) for n, s in memory.initial_state(0).items()
    }
    gradients = torch.autograd.grad(y.sum(), [x, *memory.parameters()], allow_unused=True)
    assert gradients[0] is not None
    assert all((g == 0).all() for g in gradients if g is not None)
    with pytest.raises(ValueError, match=r"x has shape \(3, 0, 5\); it must have at least one step"):
        memory(torch.zeros(3, 0, D, dtype=torch.float64))


@pytest.mark.parametrize("case", CASES)
def test_the_state_of_another_memory(case: str) -> None:
    memory = build(case)
    x, state = torch.randn(2, 4, D, dtype=torch.float64), memory.initial_state(2)
    wrong = [{**state, "other": torch.zeros(2, 3)}, memory.initial_state(3)] if state else [{"hidden": torch.zeros(2, 8)}]
    for name, leaf in state.items():
        wrong.append({n: s for n, s in state.items() if n != name})
        wrong.append({**state, name: torch.stack([leaf, leaf], dim=1)})
    for given in wrong:
        with pytest.raises(ValueError, match=r"state has .*; the state of .* is a dict") as caught:
            memory(x, given)
        assert all(f"{name} {tuple(leaf.shape)}" in str(caught.value) for name, leaf in state.items())
    for other in (torch.zeros(1, 2, SIZE), (torch.zeros(1, 2, SIZE),), {**state, "other": None}):
        with pytest.raises(TypeError, match=r"state is a .*; the state of .* is a dict of tensors"):
            memory(x, other)


@pytest.mark.parametrize("case", [case for case in REMEMBERS if "backend" not in CASES[case][1]])
def test_learns_to_recall(case: str) -> None:
    """Name the symbol seen four steps before, among four: chance is 0.25."""
    torch.manual_seed(0)
    name, options = CASES[case]
    if name == "shm":
        options = {"feature_map": "softmax", "read_norm": True, **options}
    memory = make_memory(name, 12, 32, 24, **options)
    read = torch.nn.Linear(32, 4)
    optimiser = torch.optim.Adam([*memory.parameters(), *read.parameters()], lr=5e-3)
    angle = torch.arange(20)[:, None] * torch.tensor([0.2, 0.5, 1.1, 2.0])
    position = torch.cat([angle.sin(), angle.cos()], dim=-1).expand(32, -1, -1)
    for _ in range(300):
        symbol = torch.randint(4, (32, 20))
        x = torch.cat([torch.nn.functional.one_hot(symbol, 4).float(), position], dim=-1)
        logits = read(memory(x)[0])[:, 4:]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), symbol[:, :-4].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    accuracy = (logits.argmax(-1) == symbol[:, :-4]).float().mean().item()
    assert accuracy > RECALL.get(case, 0.6), f"{accuracy:.2f}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("smh", 3, 4), ["'smh'", "shm"]),
        (("shm", 0, 4), ["input_size is 0"]),
        (("gru", 3, 0), ["output_size is 0"]),
    ],
)
def test_errors_when_building(arguments: tuple, words: list[str]) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        make_memory(*arguments)
    assert all(word in str(caught.value) for word in words)


def test_errors_when_called() -> None:
    memory = make_memory("gru", 3, 4)
    with pytest.raises(ValueError, match=r"x has shape \(2, 5\); it must be \(B, T, 3\)"):
        memory(torch.zeros(2, 5))
    packed = nn.utils.rnn.pack_sequence([torch.zeros(2, 3)])
    with pytest.raises(TypeError, match=r"x is a PackedSequence; it must be a tensor \(B, T, 3\)"):
        memory(packed)
    with pytest.raises(ValueError, match=r"start has shape \(2, 4\).*\(2, 5\), torch.bool"):
        memory(torch.zeros(2, 5, 3), start=torch.zeros(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"'gru' has no option 'theta'"):
        make_memory("gru", 3, 4, theta="fixed")

"""The contract of memories, held over the whole registry."""

from __future__ import annotations

import copy
import io
import itertools

import pytest
import torch
from contract import CASES, OUT, RECALL, REMEMBERS, SIZE, D, build, close, differentiable, some_state, starts
from torch import Tensor, nn

from hadamem.memory import make_memory


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

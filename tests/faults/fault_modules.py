"""Memories in other people's PyTorch code."""

from __future__ import annotations

import copy
import io
import pathlib
import pickle
import random
import traceback
from collections.abc import Callable

import torch
from torch import Tensor

from hadamem.memory import MEMORIES, Memory, State, make_memory

_OPTIONS: dict[str, list[dict]] = {
    "shm": [
        {},
        {"theta": "fixed"},
        {"theta": "centred", "convolution": 4, "shortcut": True},
        {"heads": 2, "feature_map": "softmax", "read_norm": True},
        {"layers": 2},
        {"calibration": "ones"},
    ],
    "delta_net": [{}, {"heads": 2}],
    "fwp": [{}, {"rule": "sum"}],
    "gpt": [{}, {"positions": "rotary", "window": 3, "heads": 2}],
    "mamba": [{}, {"layers": 2}],
}

# PyTorch's own words for what its recurrent cells, its attention and its functions with a gradient of their own cannot do
_REFUSALS = (
    "Batching rule not implemented",
    "does not support it because it has not been implemented",
    "NYI: Functionalize rule for custom_function_call",
    "is not differentiable with respect to argument",
)


def run(seed: int, folder: pathlib.Path) -> str | None:
    """A random memory, sequence and way to use it: it must give what plain use gives, or one clear error."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    name = draw.choice(list(MEMORIES))
    options = draw.choice(_OPTIONS.get(name, [{}]))
    dtype = draw.choice([torch.float32, torch.float64])
    memory = make_memory(name, 3, 4, 4, **options).to(dtype)
    B, T = draw.randint(1, 4), draw.choice([1, 2, 5, 17, 70])
    x = torch.randn(B, T, 3, dtype=dtype)
    start = torch.rand(B, T) < draw.choice([0.0, 0.1, 0.5])
    state = memory.initial_state(B)
    y, last = memory(x, state, start)
    way = draw.choice(list(_WAYS))
    try:
        problem = _WAYS[way](memory, x, state, start, y.detach(), {name: leaf.detach() for name, leaf in last.items()})
    except Exception as error:
        problem = None if any(words in str(error) for words in _REFUSALS) else traceback.format_exc()
    return None if problem is None else f"{name} {options} {dtype} (B, T) = {(B, T)}, {way}: {problem}"


Way = Callable[[Memory, Tensor, State, Tensor, Tensor, State], str | None]


def _differ(got: Tensor, want: Tensor, scale: float = 1.0) -> str | None:
    tolerance = scale * (1e-9 if want.dtype == torch.float64 else 2e-4)
    if got.shape != want.shape:
        return f"shape {tuple(got.shape)} instead of {tuple(want.shape)}"
    if not torch.allclose(got.to(want.dtype), want, rtol=tolerance, atol=tolerance):
        return f"differs by {(got - want).abs().max().item():.3g}"
    return None


def _stepwise(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    steps = []
    for t in range(x.shape[1]):
        out, state = memory(x[:, t : t + 1], state, start[:, t : t + 1])
        steps.append(out)
    return _differ(torch.cat(steps, 1), y)


def _without_grad(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    with torch.inference_mode():
        return _differ(memory(x, state, start)[0], y)


def _copied(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    return _differ(copy.deepcopy(memory)(x, state, start)[0], y)


def _pickled(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    return _differ(pickle.loads(pickle.dumps(memory))(x, state, start)[0], y)


def _saved(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    buffer = io.BytesIO()
    torch.save(memory.state_dict(), buffer)
    buffer.seek(0)
    other = copy.deepcopy(memory)
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    return _differ(other(x, state, start)[0], y)


def _functional(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    weights = dict(memory.named_parameters())
    return _differ(torch.func.functional_call(memory, weights, (x, state, start))[0], y)


def _functionalized(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    return _differ(torch.func.functionalize(lambda x: memory(x, state, start)[0])(x), y)


def _mapped(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    def one(x: Tensor, state: State, start: Tensor) -> Tensor:
        return memory(x[None], {name: leaf[None] for name, leaf in state.items()}, start[None])[0][0]

    return _differ(torch.func.vmap(one)(x, state, start), y)


def _forward_mode(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    """The derivative along a direction equals that by the gradient."""
    direction = torch.randn_like(x)
    _, along = torch.func.jvp(lambda x: memory(x, state, start)[0].sum(), (x,), (direction,))
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(memory(x, state, start)[0].sum(), x)
    return _differ(along, (gradient * direction).sum(), 1e2)


def _strided(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    other = x.transpose(0, 1).contiguous().transpose(0, 1)
    wide = {name: leaf.repeat_interleave(2, 0)[::2] for name, leaf in state.items()}
    return _differ(memory(other, wide, start.t().contiguous().t())[0], y)


def _state_in_place(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    x = x.clone().requires_grad_()
    out, after = memory(x, state, start)
    (want,) = torch.autograd.grad(out.sum(), x, retain_graph=True)
    for leaf in after.values():
        leaf.detach().zero_()
    (got,) = torch.autograd.grad(out.sum(), x)
    return _differ(out.detach(), y) or _differ(got, want)


def _defaults(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return _differ(memory(x, state, start)[0], y)
    finally:
        torch.set_default_dtype(before)


def _wrong(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    """What cannot be computed is refused by a ValueError or TypeError with the names of what was wrong."""
    other = dict(state) | {"nothing": torch.zeros(len(x))}
    for arguments in (
        (x[..., :2], state, start),
        (x[:, :0], state, start[:, :0]),
        (x, other, start),
        (x, {name: leaf.repeat_interleave(2, 0) for name, leaf in state.items()} or other, start),
        (x, state, start.float()),
        (x, state, start[:, 1:]),
        (x.tolist(), state, start),
        (x, "state", start),
    ):
        try:
            memory(*arguments)
        except (ValueError, TypeError) as error:
            if not any(word in str(error) for word in ("x ", "state ", "start ")):
                return f"an error without a name: {error}"
        else:
            return f"took {[getattr(a, 'shape', a) for a in arguments]}"
    return None


def _no_rows(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    out, after = memory(x[:0], memory.initial_state(0), start[:0])
    return _differ(out, y[:0]) or next((f"{n} {leaf.shape}" for n, leaf in after.items() if len(leaf)), None)


def _poisoned(memory: Memory, x: Tensor, state: State, start: Tensor, y: Tensor, last: State) -> str | None:
    """NaN before a start reaches nothing after it, nor any other row."""
    T = x.shape[1]
    t = T // 2
    x, start = x.clone(), start.clone()
    start[:, t] = True
    want = memory(x, state, start)[0]
    x[0, :t] = float("nan")
    got = memory(x, state, start)[0]
    return _differ(got[:, t:], want[:, t:]) or _differ(got[1:], want[1:])


_WAYS: dict[str, Way] = {
    way.__name__.strip("_"): way
    for way in (
        _stepwise, _without_grad, _copied, _pickled, _saved, _functional, _functionalized, _mapped, _forward_mode, _strided,
        _state_in_place, _defaults, _wrong, _no_rows, _poisoned,
    )
}  # fmt: skip

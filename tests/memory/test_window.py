"""Attention over a window against its definition, key by key, and what the memories with a window see."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hadamem.memory import make_memory
from hadamem.memory.window import RelativeWindowAttention, WindowAttention, rotate, sine_code, visible
from hadamem.ops.episodes import episode_steps


def test_steps_within_the_episode() -> None:
    start = torch.tensor([[0, 0, 1, 0, 0], [1, 0, 0, 1, 1], [0, 0, 0, 0, 0]]).bool()
    want = [[7, 8, 0, 1, 2], [0, 1, 2, 0, 0], [0, 1, 2, 3, 4]]
    assert episode_steps(start, torch.tensor([7, 9, 0])).tolist() == want
    assert episode_steps(start, torch.tensor([3]))[2].tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize(("T", "window"), [(1, 4), (3, 4), (12, 4), (14, 5), (6, 1), (5, 40)])
@pytest.mark.parametrize("kind", ["plain", "rotary", "relative"])
def test_attention_is_its_definition(kind: str, T: int, window: int) -> None:
    B, D, heads = 2, 8, 2
    if kind == "relative":
        attention: WindowAttention = RelativeWindowAttention(D, heads, window).double()
        torch.nn.init.normal_(attention.content_bias)
        torch.nn.init.normal_(attention.distance_bias)
    else:
        attention = WindowAttention(D, heads, window, rotary=kind == "rotary").double()
    x, start = torch.randn(B, T, D, dtype=torch.float64), torch.rand(B, T) < 0.1
    start[:, 0] = True
    step = episode_steps(start, torch.zeros(B, dtype=torch.long))
    got, _ = attention(x, x.new_zeros(B, window - 1, 2 * D), step, visible(step, window))
    q, k, v = (part.unflatten(-1, (heads, -1)) for part in attention.project(attention.norm(x)).chunk(3, dim=-1))
    if kind == "rotary":
        q, k = rotate(q, step), rotate(k, step)

    def score(b: int, t: int, s: int) -> Tensor:  # (heads,)
        if not isinstance(attention, RelativeWindowAttention):
            return (q[b, t] * k[b, s]).sum(-1)
        r = attention.relative(sine_code(torch.tensor(t - s), D, torch.float64)).view(heads, -1)
        u, w = attention.content_bias[:, 0], attention.distance_bias[:, 0]
        return ((q[b, t] + u) * k[b, s] + (q[b, t] + w) * r).sum(-1)

    for b in range(B):
        for t in range(T):
            seen = range(max(t - window + 1, t - int(step[b, t])), t + 1)
            weight = torch.softmax(torch.stack([score(b, t, s) for s in seen]) / math.sqrt(D // heads), dim=0)
            y = attention.output((weight[..., None] * v[b, seen.start : t + 1]).sum(0).flatten())
            torch.testing.assert_close(got[b, t], y)


def test_rotation_keeps_distances_only() -> None:
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)
    products = [(rotate(q, torch.tensor([[t + 3]])) * rotate(k, torch.tensor([[t]]))).sum() for t in (0, 1, 50)]
    torch.testing.assert_close(torch.stack(products), products[0].expand(3))
    assert abs(products[0] - (q * k).sum()) > 1e-6


@pytest.mark.parametrize(
    ("name", "options", "reach"),
    [
        ("framestack", {}, 3),
        ("framestack", {"frames": 1}, 0),
        ("gpt", {"window": 4}, 3),
        ("gpt", {"window": 4, "layers": 2}, 6),
        ("gtrxl", {"window": 4, "layers": 2, "heads": 2}, 6),
        ("positional_mlp", {}, 0),
    ],
)
def test_how_far_back_it_sees(name: str, options: dict, reach: int) -> None:
    memory = make_memory(name, 3, 16, **options).double()
    x = torch.randn(1, 10, 3, dtype=torch.float64, requires_grad=True)
    seen = torch.autograd.grad(memory(x)[0][:, -1].square().sum(), x)[0].abs().sum((0, 2)) > 0
    assert seen.tolist() == [age <= reach for age in range(9, -1, -1)]


def test_positional_mlp_knows_the_time() -> None:
    memory = make_memory("positional_mlp", 3, 16)
    x, start = torch.ones(1, 6, 3), torch.tensor([[0, 0, 0, 1, 0, 0]]).bool()
    y, _ = memory(x, None, start)
    torch.testing.assert_close(y[:, :3], y[:, 3:])
    assert (y[:, 0] - y[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("gpt", {"heads": 3}, "hidden_size is 16; it must be a multiple of 3"),
        ("gpt", {"heads": 16, "positions": "rotary"}, "hidden_size is 16; it must be a multiple of 32"),
        ("gpt", {"positions": "learned"}, "positions is 'learned'; it must be one of sine, rotary"),
        ("gtrxl", {"window": 0}, "window is 0"),
        ("gtrxl", {"layers": 0}, "layers is 0"),
        ("gpt", {"heads": 0}, "heads is 0"),
        ("framestack", {"frames": 0}, "frames is 0"),
    ],
)
def test_errors(name: str, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_memory(name, 3, 16, **options)

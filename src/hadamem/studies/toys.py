"""Three supervised toy tasks that require a memory, and the network in which every memory learns them.

The network is like that of a policy: a layer with ReLU for the symbols, whose output is joined with a sine code of the step, a
linear map into the memory, and two layers behind it. Without the code, memories that are addressed by content could not tell
one step from another; memories that count steps themselves gain nothing from it. The caller sets the memory's size and options.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..memory import make_memory
from ..memory.window import sine_code

SYMBOLS = 8
FEATURES = 64  # into and out of the memory
_SKIP = -100  # the target of a step without a question
_CODE = 32  # features of the sine code


@dataclass(frozen=True)
class Toy:
    """A task whose rows are drawn at random. Every answer is one of SYMBOLS, so that a guess is right once in eight times."""

    about: str
    """description of the task, in one line"""
    features: int
    """number of features of x"""
    scored: int
    """number of last steps that count for the accuracy"""
    draw: Callable[[int], tuple[Tensor, Tensor]]
    """function of the batch size B that returns x (B, T, features), one-hot, and targets (B, T) int64"""


def copy(length: int = 8, delay: int = 32) -> Toy:
    """Show `length` symbols, one per step, and ask for each of them `delay` steps later. The steps in between are empty."""

    def draw(B: int) -> tuple[Tensor, Tensor]:
        symbols = torch.randint(SYMBOLS, (B, length))
        x, target = torch.zeros(B, delay + length, SYMBOLS + 1), torch.full((B, delay + length), _SKIP)
        x[:, :length, :SYMBOLS] = F.one_hot(symbols, SYMBOLS)
        x[:, delay:, SYMBOLS] = 1  # marks a question
        target[:, delay:] = symbols
        return x, target

    return Toy(f"copy {length} symbols after {delay} steps", SYMBOLS + 1, length, draw)


def associative(pairs: int = 8, kinds: int | None = None) -> Toy:
    """Show pairs of a key and a value, one pair per step; then show each key, in another order, and ask for its value.

    The keys of a row are different from each other, out of `kinds` keys; None: as many as `pairs`.
    """
    kinds = pairs if kinds is None else kinds

    def draw(B: int) -> tuple[Tensor, Tensor]:
        keys, asked = torch.rand(B, kinds).argsort(dim=1)[:, :pairs], torch.rand(B, pairs).argsort(dim=1)
        values = torch.randint(SYMBOLS, (B, pairs))
        x, target = torch.zeros(B, 2 * pairs, kinds + SYMBOLS), torch.full((B, 2 * pairs), _SKIP)
        x[:, :, :kinds] = F.one_hot(torch.cat([keys, keys.gather(1, asked)], dim=1), kinds)
        x[:, :pairs, kinds:] = F.one_hot(values, SYMBOLS)
        target[:, pairs:] = values.gather(1, asked)
        return x, target

    return Toy(f"value of a key, {pairs} pairs", kinds + SYMBOLS, pairs, draw)


def one_of(choices: Sequence[Toy]) -> Toy:
    """A toy for training only, not for `accuracy`: each batch is of one of the choices, drawn at random. They have the same
    features."""

    def draw(B: int) -> tuple[Tensor, Tensor]:
        return choices[int(torch.randint(len(choices), ()))].draw(B)

    return Toy(f"one of: {'; '.join(toy.about for toy in choices)}", choices[0].features, 0, draw)


def first(steps: int = 128) -> Toy:
    """Show a random symbol at each of `steps` steps, the first one with a mark. The first symbol is the target of every step;
    only the last answer counts for the accuracy."""

    def draw(B: int) -> tuple[Tensor, Tensor]:
        symbols = torch.randint(SYMBOLS, (B, steps))
        x = F.pad(F.one_hot(symbols, SYMBOLS).float(), (0, 1))
        x[:, 0, SYMBOLS] = 1
        return x, symbols[:, :1].expand(-1, steps)

    return Toy(f"first of {steps} symbols", SYMBOLS + 1, 1, draw)


class Reader(nn.Module):
    """(B, T, toy.features) -> logits (B, T, SYMBOLS): a memory between layers like those of a policy."""

    def __init__(self, toy: Toy, memory: str, size: int | None = None, **options: Any) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(toy.features, FEATURES), nn.ReLU())
        self.before = nn.Linear(FEATURES + _CODE, FEATURES)
        self.memory = make_memory(memory, FEATURES, FEATURES, size, **options)
        self.after = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Linear(FEATURES, SYMBOLS))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.after(self.memory(self.features(x))[0])

    def features(self, x: Tensor) -> Tensor:
        """The inputs of the memory, (B, T, FEATURES)."""
        code = sine_code(torch.arange(x.shape[1]), _CODE, x.dtype).expand(x.shape[0], -1, -1)
        return self.before(torch.cat([self.encoder(x), code], dim=-1))


def train(reader: Reader, toy: Toy, steps: int, batch_size: int = 32, learning_rate: float = 3e-3) -> int:
    """Train with Adam. The learning rate rises linearly over the first tenth of the steps (transformers do not learn without
    this), and then falls linearly to zero.

    Returns:
        The number of updates that were left out because the gradient was not finite.
    """
    lost = 0
    optimiser = torch.optim.Adam(reader.parameters(), lr=learning_rate)
    for n in range(steps):
        optimiser.param_groups[0]["lr"] = learning_rate * min(10 * (n + 1), (steps - n) / 0.9) / steps
        x, target = toy.draw(batch_size)
        loss = F.cross_entropy(reader(x).flatten(0, 1), target.flatten(), ignore_index=_SKIP)
        optimiser.zero_grad()
        loss.backward()
        if nn.utils.clip_grad_norm_(reader.parameters(), 1.0).isfinite():
            optimiser.step()
        else:
            lost += 1
    return lost


@torch.no_grad()
def accuracy(reader: Reader, toy: Toy, batch_size: int = 512) -> float:
    """The share of right answers on fresh rows, where each answer is the most likely symbol."""
    x, target = toy.draw(batch_size)
    return (reader(x)[:, -toy.scored :].argmax(-1) == target[:, -toy.scored :]).float().mean().item()

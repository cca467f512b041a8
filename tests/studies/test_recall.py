"""The toys: that they are right, that they need a memory, and that every memory learns what it can learn."""

from __future__ import annotations

import pytest
import torch

from hadamem.memory import MEMORIES, parse_options
from hadamem.recipes.presets import preset_config
from hadamem.studies import recall, toys

#: The toys made short.
SHORT = {"copy": toys.copy(2, 3), "associative": toys.associative(3), "first": toys.first(8)}
#: The toy that a memory must learn, where it is not "first".
EXCEPT = {"framestack": "copy"}  # it has the last four steps
NO_MEMORY = ("mlp", "positional_mlp")


def learn(name: str, toy: toys.Toy, steps: int = 300) -> float:
    config = preset_config("fast", "popgym-RepeatPreviousEasy-v0", name)
    torch.manual_seed(0)
    reader = toys.Reader(toy, name, config.memory_size, **parse_options(name, config.memory_options))
    toys.train(reader, toy, steps, learning_rate=5e-3)
    return toys.accuracy(reader, toy)


@pytest.mark.parametrize("name", [name for name in MEMORIES if name not in NO_MEMORY])
def test_every_memory_learns_a_toy(name: str) -> None:
    assert learn(name, SHORT[EXCEPT.get(name, "first")]) >= recall.LEARNED


@pytest.mark.parametrize("name", NO_MEMORY)
@pytest.mark.parametrize("toy", SHORT)
def test_without_a_memory_none_is_learned(name: str, toy: str) -> None:
    assert learn(name, SHORT[toy]) < 0.2  # chance: 0.125


def test_what_is_expected_names_every_memory_and_toys_that_there_are() -> None:
    assert set(MEMORIES) <= set(recall.LEARNS), "run `hadamem bench recall --memories NAME` and say what it learns"
    assert set().union(*recall.LEARNS.values()) <= set(recall.TOYS)
    assert not recall.LEARNS["mlp"]


def test_the_answers_can_be_read_off_the_rows() -> None:
    """By a program with a perfect memory, that knows nothing but the words that describe the toys."""
    x, target = toys.copy(3, 5).draw(4)
    assert x.shape == (4, 8, 9)
    assert x[:, :, :8].sum(-1).eq(torch.tensor([1] * 3 + [0] * 5)).all()
    assert x[:, :, 8].eq(torch.tensor([0] * 5 + [1] * 3)).all()
    assert (x[:, :3, :8].argmax(-1) == target[:, 5:]).all()
    assert (target[:, :5] < 0).all()
    x, target = toys.associative(4).draw(6)
    for row, answers in zip(x, target, strict=True):
        held = {int(step[:4].argmax()): int(step[4:].argmax()) for step in row[:4]}
        assert len(held) == 4
        assert [held[int(step[:4].argmax())] for step in row[4:]] == answers[4:].tolist()
        assert not row[4:, 4:].any()
    x, target = toys.first(7).draw(5)
    assert (target == x[:, :1, :8].argmax(-1)).all()
    assert x[:, :, 8].eq(torch.tensor([1] + [0] * 6)).all()


def test_rows_say_where_they_differ_from_what_is_expected() -> None:
    row = recall.Row("mlp", copy=0.95, associative=0.13, first=0.12, seconds=1.0)
    assert row.unexpected() == ["copy"]
    assert recall.shown([row])[0]["as expected"] == "no: copy"

"""Which memories learn the three toy tasks within a short training, and which of them are expected to."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

from ..bench.train import ENV
from ..measure import side_by_side
from ..memory import parse_options
from ..options import read_json
from ..recipes.presets import preset_config
from . import toys

#: The toy tasks, each with the number of batches of 32 rows that a memory is trained on.
TOYS: dict[str, tuple[toys.Toy, int]] = {
    "copy": (toys.copy(), 1500),
    "associative": (toys.associative(), 1500),
    "first": (toys.first(), 500),
}
#: A toy counts as learned from this accuracy on.
LEARNED = 0.9
#: The toys that each memory is expected to learn in that training. mlp must learn none, since it remembers nothing.
LEARNS: dict[str, set[str]] = {
    "shm": {"copy", "associative", "first"},
    "gru": {"first"},
    "lstm": set(),
    "elman": set(),
    "indrnn": set(),
    "mingru": {"first"},
    "lmu": {"copy"},
    "ffm": {"first"},
    "lru": {"copy"},
    "s5": {"copy"},
    "mlp": set(),
    "mlstm": {"copy", "associative", "first"},
    "slstm": {"copy", "first"},
    "mamba": {"first"},
    "linear_attention": {"copy", "associative", "first"},
    "gla": {"copy", "associative", "first"},
    "fwp": {"copy", "first"},
    "delta_net": {"copy", "associative", "first"},
    "gpt": {"copy", "first"},
    "gtrxl": {"copy", "associative", "first"},
    "framestack": set(),
    "positional_mlp": set(),
}


@dataclass(frozen=True)
class Row:
    """A memory's accuracy on every toy, from 0 to 1 (chance: 1 / toys.SYMBOLS), and the seconds of all trainings together, on
    one thread."""

    memory: str
    copy: float
    associative: float
    first: float
    seconds: float

    def expected(self) -> list[str]:
        """Toys that the memory learns according to LEARNS."""
        return [toy for toy in TOYS if toy in LEARNS.get(self.memory, ())]

    def unexpected(self) -> list[str]:
        """Toys whose outcome is not what LEARNS says."""
        return [toy for toy in TOYS if (getattr(self, toy) >= LEARNED) != (toy in self.expected())]


def measure(name: str) -> Row:
    """Train a memory on every toy, and measure its accuracy."""
    torch.set_num_threads(1)
    config = preset_config("fast", ENV, name)
    accuracies = {}
    begin = time.perf_counter()
    for toy_name, (toy, steps) in TOYS.items():
        torch.manual_seed(0)
        reader = toys.Reader(toy, name, config.memory_size, **parse_options(name, config.memory_options))
        toys.train(reader, toy, steps)
        accuracies[toy_name] = toys.accuracy(reader, toy)
    return Row(name, **accuracies, seconds=time.perf_counter() - begin)


def measure_all(names: Sequence[str], jobs: int, on_progress: Callable[[str], None]) -> list[Row]:
    """Measure memories by name, `jobs` at a time, each in a process of its own."""
    return read_json(list[Row], side_by_side(__name__, names, jobs, on_progress))


def shown(rows: Sequence[Row]) -> list[dict[str, str]]:
    """The rows as texts, with the expected outcomes."""
    return [
        {"memory": row.memory}
        | {toy: f"{getattr(row, toy):.2f}" for toy in TOYS}
        | {"expected": ", ".join(row.expected()) or "none"}
        | {"as expected": "no: " + ", ".join(wrong) if (wrong := row.unexpected()) else "yes"}
        for row in rows
    ]


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1]))))

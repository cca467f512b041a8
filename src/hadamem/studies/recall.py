"""Which memories learn the three toys within a short training, beside what is known about them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..bench.train import ENV
from ..measure import side_by_side
from ..memory import parse_options
from ..recipes.presets import preset_config
from . import toys

#: The toys, and how many batches of 32 rows a memory is trained on each.
TOYS: dict[str, tuple[toys.Toy, int]] = {
    "copy": (toys.copy(), 1500),
    "associative": (toys.associative(), 1500),
    "first": (toys.first(), 500),
}
#: A toy counts as learned from this accuracy on.
LEARNED = 0.9
#: Which toys each memory learns in that time. mlp must learn none: it cannot.
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


def measure(name: str) -> dict[str, Any]:
    """Accuracy in every toy, from 0 to 1 (chance: 1 in toys.SYMBOLS), and the seconds it took, on one thread."""
    torch.set_num_threads(1)
    config = preset_config("fast", ENV, name)
    row: dict[str, Any] = {"memory": name}
    begin = time.perf_counter()
    for toy_name, (toy, steps) in TOYS.items():
        torch.manual_seed(0)
        reader = toys.Reader(toy, name, config.memory_size, **parse_options(name, config.memory_options))
        toys.train(reader, toy, steps)
        row[toy_name] = toys.accuracy(reader, toy)
    return row | {"seconds": time.perf_counter() - begin}


def measure_all(names: Sequence[str], jobs: int, on_progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Memories by name, `jobs` at a time, each in a process of its own."""
    return side_by_side(__name__, names, jobs, on_progress)


def unexpected(row: dict[str, Any]) -> list[str]:
    """Toys whose outcome is not what LEARNS says."""
    return [toy for toy in TOYS if (row[toy] >= LEARNED) != (toy in LEARNS.get(row["memory"], ()))]


def shown(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The rows as texts, with what is expected."""
    return [
        {"memory": row["memory"]}
        | {toy: f"{row[toy]:.2f}" for toy in TOYS}
        | {"expected": ", ".join(toy for toy in TOYS if toy in LEARNS.get(row["memory"], ())) or "none"}
        | {"as expected": "no: " + ", ".join(wrong) if (wrong := unexpected(row)) else "yes"}
        for row in rows
    ]


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))

"""The study of long recall: its distances, what it counts, and what its sentences say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hadamem.studies import long_recall, toys
from hadamem.studies.cells import Stopped


def test_distances_grow_to_the_longest() -> None:
    assert list(long_recall.distances(1_000)) == [10, 20, 40, 80, 100, 200, 400, 800, 1_000]
    assert list(long_recall.distances(12)) == [10, 12]
    assert list(long_recall.distances(4)) == [4]


def test_a_stable_memory_learns_a_distance_step_by_step() -> None:
    found = long_recall.recall("SHM, stable theta", 40, 60.0, 0)
    assert found.reached == 40
    assert found.accuracy >= long_recall.RECALLED
    assert found.lost == 0


def test_gradients_that_are_not_finite_are_counted_and_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: toys.Reader, x: Tensor) -> Tensor:
        return self.after(self.features(x)) * torch.inf

    monkeypatch.setattr(toys.Reader, "forward", forward)
    found = long_recall.recall("GRU", 20, 60.0, 0)
    assert (found.lost, found.updates, found.reached) == (20, 0, 0)
    assert long_recall._row("GRU", 20, [found]).outcome == "diverged"


def test_the_sentences_are_what_the_rows_say() -> None:
    done = long_recall.Recalled(reached=10, accuracy=1.0, updates=5, lost=0, seconds=2.0, process_mb=9.0)
    made = {
        "SHM, stable theta": done,
        "GRU": replace(done, accuracy=0.5, reached=0, seconds=9.0),
        "SHM, random theta": replace(done, lost=1, seconds=3.0),
        "GPT": Stopped("memory"),
    }
    rows = [long_recall._row(name, 10, [one, one]) for name, one in made.items()]
    assert [row.outcome for row in rows] == ["recalled", "not recalled", "recalled", "out of memory"]
    assert rows[3].seconds is None
    assert "SHM, stable theta 10; SHM, centred theta none" in long_recall._on_reach(rows)
    assert (
        long_recall._on_time(rows) == "The fastest to learn it are SHM, stable theta 2 s, SHM, random theta 3 s for 10 steps."
    )
    assert long_recall._on_lost(rows) == "Updates were lost to gradients that were not finite by SHM, random theta."

"""The study of capacity, on its tiny budget and on rows made up."""

from __future__ import annotations

import pathlib
from dataclasses import replace

import pytest

from hadamem.memory import MEMORIES
from hadamem.studies import capacity


def test_every_memory_of_a_matrix_is_there() -> None:
    for name, cls in MEMORIES.items():
        state = cls(3, 5, **{cls.size_argument: 8}).initial_state(2)
        assert (name in capacity.MATRICES) == ("memory" in state and state["memory"].dim() > 2), name


def test_a_run_and_its_continuation(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "MATRICES", ("mlstm", "mamba"))
    told: list[str] = []
    findings = capacity.run("tiny", tmp_path, told.append, 0)
    size = capacity.SIZES["tiny"]
    assert len(findings.rows) == 2 * len(size.sizes) * len(size.pairs)
    assert all(0 <= row.accuracy <= 1 for row in findings.rows)
    assert len(findings.conclusion) == 3
    assert len(findings.figure.axes) == 2
    monkeypatch.setattr(capacity, "measure", lambda *_: pytest.fail("a finished part was made again"))
    assert capacity.run("tiny", tmp_path, told.append, 0).rows == findings.rows


def row(memory: str, H: int, pairs: int, accuracy: float) -> capacity.Row:
    return capacity.Row(memory, H, pairs, accuracy, accuracy, accuracy)


def test_conclusions_follow_the_numbers() -> None:
    rows = [row("shm", 8, 4, 0.95), row("shm", 8, 16, 0.5), row("shm", 16, 4, 1.0), row("shm", 16, 16, 0.91)]
    rows += [row("gla", 8, 4, 0.4), row("gla", 8, 16, 0.2), row("gla", 16, 4, 0.5), row("gla", 16, 16, 0.3)]
    best, size, held = capacity.conclude(rows)
    assert "shm recalls best, with a mean accuracy of 0.84, and gla worst, with 0.35" in best
    assert "From H = 8 to 16 shm gains most, +0.23; of 16 pairs shm with H = 16 recalls most, 0.91" in size
    assert held.endswith("the most pairs held at any size are 16 by shm; none by the others.")
    worse = [replace(r, accuracy=r.accuracy / 2 if r.memory == "shm" else 0.9) for r in rows]
    best, size, held = capacity.conclude(worse)
    assert "gla recalls best, with a mean accuracy of 0.90, and shm worst" in best
    assert "16 by gla" in held
    assert capacity.conclude([replace(r, accuracy=0.1) for r in rows])[2].endswith("no memory holds any number of pairs.")


def test_the_mean_of_networks_lies_between_them() -> None:
    rows = capacity.table({("shm", 8): [[0.5, 0.2], [0.9, 0.4]]}, [4, 8])
    assert [(r.pairs, r.lowest, r.highest) for r in rows] == [(4, 0.5, 0.9), (8, 0.2, 0.4)]
    assert [r.accuracy for r in rows] == pytest.approx([0.7, 0.3])

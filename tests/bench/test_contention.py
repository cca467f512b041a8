"""Training beside busy processes: what is measured, and that nothing is left behind."""

from __future__ import annotations

import pathlib

import pytest

from hadamem.bench import contention


def test_rows_name_threads_neighbours_and_the_fair_share() -> None:
    rows = contention.measure_all(lambda text: None, cases=[("mlp", 8)], settings=["default"], neighbours=[1], seconds=0.01)
    assert [(row.threads, row.neighbours) for row in rows] == [("default (1)", 0), ("default (1)", 1)]
    assert all(row.steps_per_s > 0 for row in rows)
    assert rows[0].fair_share == pytest.approx(1.0)
    spinning = [path for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if b"parent = os.getppid()" in _read(path)]
    assert not spinning


def test_rows_are_medians_over_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([100.0, 10.0, 700.0, 90.0, 200.0, 50.0])  # alone and beside a neighbour, round after round
    monkeypatch.setattr(contention, "in_fresh_process", lambda *_: {"steps_per_s": next(speeds), "threads": 1})
    monkeypatch.setattr(contention, "processors", lambda: 1)
    rows = contention.measure_all(lambda text: None, cases=[("mlp", 8)], settings=["1"], neighbours=[1], rounds=3)
    assert [row.steps_per_s for row in rows] == [200, 50]
    assert [row.fair_share for row in rows] == [1.0, 0.5]


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""

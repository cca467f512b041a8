"""Cells are measured once, and stopped at their limits."""

from __future__ import annotations

import pathlib
import time
from dataclasses import dataclass

import pytest

from hadamem.studies import cells
from hadamem.studies.cells import Limits, Stopped, measure_cached


@dataclass(frozen=True)
class Measured:
    name: str
    sizes: list[int]


def test_a_cell_is_measured_once(tmp_path: pathlib.Path) -> None:
    asked = []

    def measure(name: str, sizes: list[int]) -> Measured:
        asked.append(name)
        return Measured(name, sizes)

    for _ in range(2):
        assert measure_cached(tmp_path, measure, "a", [1, 2]) == Measured("a", [1, 2])
    assert measure_cached(tmp_path, measure, "a", [1, 3]) == Measured("a", [1, 3])
    assert asked == ["a", "a"]


@pytest.mark.parametrize(("limits", "stopped"), [(Limits(seconds=0), "time"), (Limits(megabytes=1), "memory")])
def test_a_cell_over_its_limit_says_so(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, limits: Limits, stopped: str
) -> None:
    monkeypatch.setattr(cells, "_START", 0.0)
    assert measure_cached(tmp_path, time.sleep, 60, limits=limits) == Stopped(stopped)


def test_a_cell_in_its_own_process(tmp_path: pathlib.Path) -> None:
    from hadamem.studies.scaling import Trial, trial

    found = measure_cached(tmp_path, trial, "cpu", "both", 4, 0, limits=Limits(60, 4000))
    assert isinstance(found, Trial)
    assert found.seconds > 0

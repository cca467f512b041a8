"""Training by several processes: what is measured."""

from __future__ import annotations

import pytest

from hadamem.bench import processes


def test_rows_say_what_processes_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(processes._ROLLOUTS, processes.ENV, (4, 8, 2))
    one, two = processes.measure_all(str, envs=[processes.ENV], memories=["mlp"], processes=[2], rounds=1, iterations=1)
    assert (one.processes, two.processes) == (1, 2)
    assert one.times_as_fast == 1.0
    assert min(two.steps_per_s, two.times_as_fast, two.expected) > 0
    assert two.averaging_ms > 0

"""Training by several processes: what is measured."""

from __future__ import annotations

import pytest

from hadamem.bench import processes


def test_rows_say_what_processes_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(processes._ROLLOUTS, processes.ENV, (4, 8, 2))
    one, two = processes.measure_all(str, envs=[processes.ENV], memories=["mlp"], processes=[2], rounds=1, iterations=1)
    assert (one.processes, two.processes) == (1, 2)
    assert (one.envs_each, two.envs_each) == (4, 2)
    assert one.times_as_fast == 1.0
    assert min(two.steps_per_s, two.times_as_fast, two.averaging_ms, two.share_ms) > 0


def test_predictions_follow_the_model() -> None:
    def row(count: int, averaging: float) -> processes.Row:
        share = 10 + 2 * 64 / count
        return processes.Row("E", "m", count, 64 // count, share + 8 * averaging, share, averaging, 8, 1.0, 1.0)

    rows = [row(1, 0.0), row(2, 1.0), row(4, 1.5)]  # averaging: 0.5 + 0.5 log2 N
    (eight,) = processes.predict(rows, [8])
    assert eight.shared_out == pytest.approx((10 + 128) / (10 + 16 + 8 * 2.0))
    assert eight.as_many_each == pytest.approx(8 * (10 + 128) / (10 + 128 + 8 * 2.0))

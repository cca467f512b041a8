"""Measured steps of environments: what the rows name, and that workers end."""

from __future__ import annotations

import multiprocessing

import pytest

from hadamem.bench import envs


def test_rows_name_the_workers_that_were_used() -> None:
    rows, acting = envs.measure_all(lambda text: None, [envs.SLEEPING], 4, [2], seconds=0.01)
    # those that wait get one worker each by default
    assert [row.workers for row in rows] == ["0", "2", "default (4)", "gymnasium (4)"]
    assert all(row.env == envs.SLEEPING for row in rows)
    assert rows[0].times_as_fast == pytest.approx(1.0)
    assert rows[0].ms_per_step >= 20  # four times 5 ms of sleep
    assert rows[2].ms_per_step >= 5
    assert [(row.workers, row.waits_for) for row in acting] == [(4, 4), (4, 2), (4, 1)]
    assert acting[0].times_as_fast == pytest.approx(1.0)
    assert not multiprocessing.active_children()

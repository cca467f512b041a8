"""The processors that workers run on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from hadamem.envs import placement
from hadamem.envs.placement import Processor

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors can be chosen on Linux only")


@pytest.fixture(autouse=True)
def anywhere() -> Iterator[None]:
    """What the test changed is changed back."""
    processors, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    yield
    os.sched_setaffinity(0, processors)
    os.sched_setscheduler(0, policy, os.sched_param(0))


def test_workers_have_processors_of_their_own_from_the_second_piece_of_work_on() -> None:
    processors = os.sched_getaffinity(0)
    own = []
    for number in range(len(processors)):
        processor = Processor(number, len(processors))
        with processor:  # in which an environment may start threads
            assert os.sched_getaffinity(0) == processors
        assert processor.bound
        own.append(os.sched_getaffinity(0))
        os.sched_setaffinity(0, processors)
    assert set().union(*own) == processors
    assert all(len(one) == 1 for one in own)


def test_a_worker_that_has_to_share_its_processor_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_WINDOW", 0.02)
    processors = os.sched_getaffinity(0)
    processor = Processor(0, 1)
    for _ in range(3):
        with processor:
            time.sleep(0.03)  # like work that others interrupt: time passes without processor time
    assert not processor.bound
    assert os.sched_getaffinity(0) == processors
    with processor:
        pass
    assert os.sched_getaffinity(0) == processors  # and does not come back


def test_a_worker_that_gets_its_processor_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_WINDOW", 0.02)
    monkeypatch.setattr(placement, "_SHARE", 0.01)  # on a machine with other work to do, too
    processor = Processor(0, 1)
    for _ in range(3):
        with processor:
            end = time.thread_time() + 0.03
            while time.thread_time() < end:
                pass
    assert processor.bound


def test_more_workers_than_processors_run_anywhere() -> None:
    processors = os.sched_getaffinity(0)
    processor = Processor(0, len(processors) + 1)
    for _ in range(2):
        with processor:
            pass
    assert not processor.bound
    assert os.sched_getaffinity(0) == processors

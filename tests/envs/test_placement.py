"""The processors that workers run on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest

from hadamem.envs import make_vector, placement
from hadamem.envs.placement import Processor
from hadamem.measure import processors

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors can be chosen on Linux only")


@pytest.fixture(autouse=True)
def anywhere() -> Iterator[None]:
    """What the test changed is changed back."""
    everywhere, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    yield
    os.sched_setaffinity(0, everywhere)
    os.sched_setscheduler(0, policy, os.sched_param(0))


class Counting(gymnasium.Env):
    """Observes on how many processors it may run, as a program that it started then would."""

    observation_space = gymnasium.spaces.Box(0, np.inf, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def count(self):
        return np.array([len(os.sched_getaffinity(0))], np.float32)

    def reset(self, *, seed=None, options=None):
        return self.count(), {}

    def step(self, action):
        return self.count(), 0.0, False, False, {}


@pytest.mark.skipif(processors() < 2, reason="two workers need two processors")
def test_what_an_environment_starts_by_its_first_step_may_run_anywhere() -> None:
    everywhere = float(len(os.sched_getaffinity(0)))
    env = make_vector(f"{__name__}:Counting", 2, seed=0, workers=2)
    seen = [env.reset(), *(env.step(env.random_actions()).obs for _ in range(2))]
    env.close()
    assert [obs.flatten().tolist() for obs in seen] == [[everywhere] * 2, [everywhere] * 2, [1.0] * 2]


def test_workers_have_processors_of_their_own_from_the_second_step_on() -> None:
    everywhere = os.sched_getaffinity(0)
    own = []
    count = processors()  # fewer than those it may run on, where a quota limits them
    for number in range(count):
        processor = Processor(number, count)
        with processor.work():  # in which an environment may start threads
            assert os.sched_getaffinity(0) == everywhere
        assert processor.bound
        own.append(os.sched_getaffinity(0))
        os.sched_setaffinity(0, everywhere)
    assert set().union(*own) <= everywhere
    assert len(set().union(*own)) == count
    assert all(len(one) == 1 for one in own)


def test_a_worker_that_has_to_share_its_processor_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_WINDOW", 0.02)
    everywhere = os.sched_getaffinity(0)
    processor = Processor(0, 1)
    for _ in range(3):
        with processor.work():
            time.sleep(0.03)  # like work that others interrupt: time passes without processor time
    assert not processor.bound
    assert os.sched_getaffinity(0) == everywhere
    with processor.work():
        pass
    assert os.sched_getaffinity(0) == everywhere  # and does not come back


def test_a_worker_that_gets_its_processor_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_WINDOW", 0.02)
    monkeypatch.setattr(placement, "_SHARE", 0.01)  # on a machine with other work to do, too
    processor = Processor(0, 1)
    for _ in range(3):
        with processor.work():
            end = time.thread_time() + 0.03
            while time.thread_time() < end:
                pass
    assert processor.bound


def test_more_workers_than_processors_run_anywhere() -> None:
    everywhere = os.sched_getaffinity(0)
    processor = Processor(0, len(everywhere) + 1)
    for _ in range(2):
        with processor.work():
            pass
    assert not processor.bound
    assert os.sched_getaffinity(0) == everywhere

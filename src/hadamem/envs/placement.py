"""The processor that a worker process runs on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from ..measure import processors

_WINDOW = 1.0  # seconds of work between two looks at the processor's share
_SHARE = 0.8  # a worker that gets less of its processor than this leaves it to the others


class Processor:
    """A processor for one worker, which the worker keeps until it has to share it with another program.

    A worker sleeps between two requests, and Linux often wakes the workers one behind the other on the processor of their
    parent, while another has nothing to do (seen on a virtual machine; it balances them only milliseconds later). So every
    worker asks for a processor of its own. If others need that processor, too, the worker may run on all again.

    Only the thread that steps the environments is bound, and only from the second step on: threads and programs that they start
    when they are made, when they are reset, or in their first step, run where they like.

    Args:
        number: number of this worker, from 0.
        count: number of workers; if there are more of them than processors, none is bound.
    """

    def __init__(self, number: int, count: int) -> None:
        self._all = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
        self._own: int | None = None
        if self._all and count <= processors():
            # the parent's number, so that runs that are started together do not all ask for the first processors
            self._own = self._all[(os.getppid() + number) % len(self._all)]
        self._wall = self._busy = 0.0
        if hasattr(os, "SCHED_BATCH"):  # a worker that wakes up does not interrupt the parent, which has others to wake
            with contextlib.suppress(OSError):  # not allowed in this container
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

    @property
    def bound(self) -> bool:
        """Whether this thread runs on its own processor only."""
        return self._own is not None and os.sched_getaffinity(0) == {self._own}

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """A context around each step."""
        wall, busy = time.perf_counter(), time.thread_time()
        yield
        if self._own is None:
            return
        if not self.bound:
            self._run_on([self._own])
            return
        self._wall += time.perf_counter() - wall
        self._busy += time.thread_time() - busy
        if self._wall > _WINDOW:
            if self._busy < _SHARE * self._wall:
                self._run_on(self._all)
                self._own = None
            self._wall = self._busy = 0.0

    def _run_on(self, processors: list[int]) -> None:
        try:
            os.sched_setaffinity(0, processors)
        except OSError:  # not allowed, or the processors that are allowed have changed
            self._own = None

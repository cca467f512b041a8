"""Showing the progress of a training, and stopping it on a signal. An error in showing the progress does not end it."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .progress import Progress

_log = logging.getLogger("hadamem")


@contextmanager
def shown(bar: Progress) -> Iterator[Callable[..., None]]:
    """Yield `Progress.update` without its errors: once it fails, such as on a closed terminal or pipe, no progress is shown."""
    shown = True

    def try_to(show: Callable[..., object], *values: Any) -> None:
        nonlocal shown
        try:
            if shown:
                show(*values)
        except Exception as error:
            shown = False
            _log.warning("progress is no longer shown, the training goes on: %s", error)

    try_to(bar.__enter__)
    try:
        yield lambda *values: try_to(bar.update, *values)
    finally:
        try_to(bar.__exit__, sys.exc_info()[0])


@contextmanager
def stop_asked(say: bool) -> Iterator[list[int]]:
    """Yield a list that becomes non-empty when a signal asks the training to stop; with `say`, also print that it will stop."""
    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        asked.append(number)
        for which in (signal.SIGINT, signal.SIGTERM):  # the next such signal ends the program at once
            signal.signal(which, before[which])
        with suppress(OSError):  # the terminal may be gone
            if not say:
                return
            print("\nstopping after this iteration, with a checkpoint; Ctrl-C again: at once", file=sys.stderr, flush=True)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup sets it to be ignored
        numbers.append(signal.SIGHUP)
    try:
        before = {number: signal.signal(number, ask) for number in numbers}
    except ValueError:  # not in the main thread, which is the only one that may set handlers
        yield asked
        return
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Progress of a training, printed as a line of text at intervals."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from datetime import timedelta


class Progress:
    """Prints environment steps, return, speed and time left. A context manager; call `update` as often as you like.

    Args:
        name: name of the training, such as its memory and task.
        total: environment steps of the whole run.
        done: environment steps made before this process started.
    """

    interval = 10.0  # least number of seconds between two lines

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.done = name, total, done
        self.mean_return = math.nan
        self._steps_before, self._begin = done, time.monotonic()
        self._next, self._shown = self._begin + self.interval, (done, self.mean_return)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None and self._shown != (self.done, self.mean_return):
            self._show()

    def update(self, done: int, mean_return: float | None = None) -> None:
        """Record the progress, and show it if the last line was printed at least `interval` seconds ago.

        Args:
            done: environment steps of the run so far.
            mean_return: mean return of the latest episodes, NaN while too few episodes have ended; None: unchanged.
        """
        self.done = done
        if mean_return is not None:
            self.mean_return = mean_return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self.interval
            self._show()

    @property
    def status(self) -> str:
        """Return, speed and time left, in words."""
        mean_return = "none yet" if math.isnan(self.mean_return) else f"{self.mean_return:.3f}"
        speed = (self.done - self._steps_before) / max(time.monotonic() - self._begin, 1e-9)
        if not speed:
            return f"return: {mean_return}"
        left = timedelta(seconds=round(max(self.total - self.done, 0) / speed))
        return f"return: {mean_return}  {speed:,.0f} steps/s  {left} left"

    def show(self) -> None:
        """Print the progress as a line of text."""
        with suppress(OSError):  # a closed pipe or a full disk must not end the training
            print(f"{self.name}: {self.done:,} of {self.total:,} steps  {self.status}", flush=True)

    def _show(self) -> None:
        self._shown = self.done, self.mean_return
        self.show()

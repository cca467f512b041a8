"""A progress bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import time
from datetime import timedelta

from rich import progress
from rich.console import Console

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows steps, return, speed and time left. A context manager; call `update` as often as you like.

    Args:
        name: what is running.
        total: environment steps of the whole run.
        done: steps made before.
    """

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        self.name, self.total = name, total
        self.console = Console(stderr=True)
        self._first, self._begin, self._told = done, time.monotonic(), time.monotonic()
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[told]}"),
            progress.TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=total, completed=done, told="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: int, mean_return: float, speed: float) -> None:
        """After `done` steps: the mean return of the latest episodes, and steps per second."""
        told = f"return {mean_return:6.3f}  {speed:8,.0f} steps/s"
        if self.console.is_terminal:
            self._bar.update(self._task, completed=min(done, self.total), told=told)
        elif time.monotonic() - self._told > _SECONDS_BETWEEN_LINES or done >= self.total:
            self._told = time.monotonic()
            elapsed = self._told - self._begin
            left = timedelta(seconds=round(elapsed / (done - self._first) * max(self.total - done, 0)))
            print(f"{self.name}: {done:,} of {self.total:,} steps  {told}  {left} left", flush=True)

"""The progress of a training as a bar on a terminal."""

from __future__ import annotations

import sys

from rich import progress
from rich.console import Console

from ..agents.progress import Progress


class ProgressBar(Progress):
    """`Progress` as a bar on stderr. See `show_progress`."""

    interval = 0.1

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        super().__init__(name, total, done)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[status]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(name, total=total, completed=done, status="")

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        super().__exit__(error)
        self._bar.stop()

    def show(self) -> None:
        """Draw the bar."""
        self._bar.update(self._task, completed=min(self.done, self.total), status=self.status)


def show_progress(name: str, total: int, done: int = 0) -> Progress:
    """Progress of a training: as a bar on a terminal; elsewhere, as lines at intervals."""
    terminal = sys.stderr is not None and sys.stderr.isatty()  # None in a process without a stderr, as of pythonw
    return (ProgressBar if terminal else Progress)(name, total, done)

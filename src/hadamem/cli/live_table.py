"""The progress of a sweep: a live table on a terminal; elsewhere, a line for each run that has ended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from rich.live import Live
from rich.table import Table

from ..sweeps.sweep import State, SweepRun
from ..text import count
from .console import console, make_table

_ORDER: tuple[State, ...] = ("running", "failed", "waiting", "done", "kept")  # by priority, if not all runs fit
_SECONDS = 1.0  # least time between two readings of the metrics


class SweepDisplay:
    """A context manager; call `look` often, and `update` when a run has ended."""

    def __init__(self, cells: Sequence[SweepRun]) -> None:
        self.cells, self._looked = cells, 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> SweepDisplay:
        if self._live is not None:
            self._live.start()
        else:
            print(f"{count(len(self.cells), 'run')}: {self._counts()}", flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def look(self) -> None:
        """Show how far the runs have come."""
        if self._live is not None and time.monotonic() - self._looked > _SECONDS:
            self._looked = time.monotonic()
            for cell in self.cells:
                if cell.state == "running":
                    cell.peek()
            self._live.update(self.table(console.height - 6), refresh=True)

    def update(self, cell: SweepRun) -> None:
        """Print the outcome of a run that has ended, if there is no live table."""
        if self._live is None:
            name = f"{self._counts()}: {cell.memory} on {cell.task}, seed {cell.seed}"
            result = cell.result
            if cell.state == "failed" or result is None:
                outcome = f"failed: {cell.problem} (in {cell.log})"
            else:
                value = result.scores.get("return", float("nan"))
                outcome = f"return {value:.3f} after {result.steps:,} steps in {timedelta(seconds=round(result.seconds))}"
            print(f"{name}: {outcome}", flush=True)

    def table(self, rows: int) -> Table:
        """A table of at most `rows` runs, in the order of the sweep."""
        table = make_table(self._counts(), ["task", "memory", "seed", "state", "steps", "return", "steps/s", "left"])
        table.columns[1].justify = "left"
        shown = set(sorted(self.cells, key=lambda cell: _ORDER.index(cell.state))[: max(rows, 1)])
        for cell in self.cells:
            if cell in shown:
                table.add_row(cell.task, cell.memory, str(cell.seed), cell.state, *self._told(cell))
        return table

    @staticmethod
    def _told(cell: SweepRun) -> tuple[str, str, str, str]:
        result = cell.result
        if result is None or not result.steps:
            return f"0 of {cell.config.steps:,}", "", "", ""
        value = f"{result.scores['return']:.3f}" if "return" in result.scores else ""
        speed = result.steps / result.seconds
        left = timedelta(seconds=round(max(cell.config.steps - result.steps, 0) / speed))
        return f"{result.steps:,} of {cell.config.steps:,}", value, f"{speed:,.0f}", str(left)

    def _counts(self) -> str:
        counts = Counter(cell.state for cell in self.cells)
        return ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])

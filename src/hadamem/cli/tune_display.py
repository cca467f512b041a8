"""The progress of a search: a live table on a terminal; elsewhere, a line for each trial that has ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.live import Live
from rich.table import Table

from ..agents.config import TrainConfig
from ..sweeps.sweep import SweepRun
from ..tuning.search import Search, configuration
from ..tuning.space import varied_names
from .console import console, make_table

_SHOWN = 12  # largest number of trials with a score in the table


class Display:
    """A context manager. Pass its methods to `Search.run` and `Search.confirm`."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._shown = -1.0

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def on_end(self, trial: FrozenTrial) -> None:
        """Print the outcome of a trial that has ended, if there is no live table."""
        if self._live is None:
            config = configuration(trial)
            settings = "default" if "default" in trial.user_attrs else describe(config, self.search.default(trial))
            print(f"trial {trial.number}, {memory_text(config)}, {settings}: {_outcome(trial)}; {self._state()}", flush=True)

    def on_look(self) -> None:
        """Show how far the trials have come."""
        if self._due():
            table = make_table(self._state(), ["trial", "memory", "steps", "return", "score", "settings"])
            self._left_aligned(table)
            for cell, running in self.search.running.items():
                result = cell.result
                steps = f"{result.steps if result else 0:,} of {cell.config.steps:,}"
                value = f"{result.scores['return']:.3f}" if result and "return" in result.scores else ""
                settings = describe(cell.config, self.search.default(running))
                table.add_row(str(running.number), memory_text(cell.config), steps, value, "", settings)
            for trial in self.search.complete()[:_SHOWN]:
                config = configuration(trial)
                settings = describe(config, self.search.default(trial))
                table.add_row(str(trial.number), memory_text(config), f"{config.steps:,}", "", f"{trial.value:.3f}", settings)
            self._update(table)

    def on_confirmation(self, cells: Sequence[SweepRun]) -> None:
        """Show how far the runs with fresh seeds have come."""
        if self._due():
            title = f"confirmation of the best with fresh seeds, {self._time_left()}"
            table = make_table(title, ["run", "memory", "state", "steps", "return"])
            table.columns[1].justify = "left"
            for cell in cells:
                result = cell.result
                steps = f"{result.steps if result else 0:,} of {cell.config.steps:,}"
                value = f"{result.scores['return']:.3f}" if result and "return" in result.scores else ""
                table.add_row(cell.path.name, memory_text(cell.config), cell.state, steps, value)
            self._update(table)

    def _state(self) -> str:
        trials = self.search.trials()
        pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
        complete = self.search.complete()
        text = f"{len(trials)} trials, {len(complete)} complete, {pruned} stopped early"
        if complete:
            text += f", best {complete[0].value:.3f} (trial {complete[0].number})"
        if defaults := [trial for trial in complete if "default" in trial.user_attrs]:
            text += f", default {defaults[0].value:.3f}"
        return f"{text}, {self._time_left()}"

    def _time_left(self) -> str:
        return f"{timedelta(seconds=round(self.search.seconds_left))} left"

    def _due(self) -> bool:
        """Whether there is a live table, and a second has passed since it was drawn."""
        if self._live is None or self.search.seconds - self._shown < 1:
            return False
        self._shown = self.search.seconds
        return True

    @staticmethod
    def _left_aligned(table: Table) -> None:
        for column in (table.columns[1], table.columns[-1]):
            column.justify = "left"
        table.columns[-1].overflow = "ellipsis"

    def _update(self, table: Table) -> None:
        assert self._live is not None
        self._live.update(table, refresh=True)


def memory_text(config: TrainConfig) -> str:
    """Name and size of a memory."""
    return config.memory if config.memory_size is None else f"{config.memory}:{config.memory_size}"


def describe(config: TrainConfig, default: TrainConfig) -> str:
    """The settings in which a configuration differs from the default with the same memory, except the memory size."""
    values: dict[str, Any] = {name: getattr(config.algorithm, name) for name in varied_names(config.algorithm)}
    texts = [f"{name}={value:g}" for name, value in values.items() if value != getattr(default.algorithm, name)]
    texts += [option for option in config.memory_options if option not in default.memory_options]
    return " ".join(texts) or "default"


def _outcome(trial: FrozenTrial) -> str:
    if trial.state == TrialState.COMPLETE:
        return f"score {trial.value:.3f}"
    if problem := trial.user_attrs.get("problem"):
        return f"failed: {problem}"
    rung, value = max(trial.intermediate_values.items())
    return f"stopped after {10 * rung} % of its steps with return {value:.3f}"

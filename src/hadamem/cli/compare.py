"""The command `hadamem compare`. The modules that compute and draw are imported when it is called."""

from __future__ import annotations

import json
import pathlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ..disk import write_whole
from ..report.results import find_results
from ..run import versions
from .console import make_table, print_table, say, show_status

if TYPE_CHECKING:
    from ..report.comparison import Comparison


@dataclass
class Compare:
    """Compare memories: statistics over seeds and tasks, pictures and a page."""

    paths: tyro.conf.Positional[tuple[pathlib.Path, ...]]
    """run folders, files of results (*.run.json), or folders of either"""
    out: pathlib.Path = pathlib.Path("compare")
    """folder that results.csv, summary.csv, summary.json, pictures (.png, .pdf) and report.html are written to"""
    metric: Literal["return", "success", "evaluation_return", "evaluation_success"] = "return"
    """metric whose mean over the last 5 % of the steps is the score of a run"""
    baseline: str | None = None
    """memory that the others are compared with; none: gru, or the worst memory if there are no runs of gru"""
    tasks: tuple[str, ...] = ()
    """only tasks that match one of these patterns, such as 'popgym-*Easy*'; none: all"""
    memories: tuple[str, ...] = ()
    """only memories that match one of these patterns; none: all"""
    normalise: Literal["known", "range", "none"] = "known"
    """known: 0 is random play and 1 the largest return if they are known, otherwise as range; range: 0 is the worst and 1 the
    best compared run of the task; none: scores stay as they are"""
    incomplete: bool = False
    """count runs that are not complete, too; all runs of a task are compared at the steps that the shortest run has made"""
    reps: int = 10_000
    """number of resamples for each bootstrap interval"""


def compare(arguments: Sequence[str]) -> None:
    """Compare memories: statistics over seeds and tasks, pictures and a page"""
    from ..report import comparison, figures, html, tables

    options = tyro.cli(Compare, args=arguments, prog="hadamem compare")
    if not options.paths:
        raise ValueError("which runs? give folders that hadamem train or hadamem sweep made, or files of results")
    if missing := [str(path) for path in options.paths if not path.exists()]:
        raise ValueError(f"there is no {' and no '.join(missing)}")
    with show_status("reading runs") as show:
        results = find_results(options.paths)
        show("resampling")
        made = comparison.compare(
            results,
            options.metric,
            options.baseline,
            options.tasks,
            options.memories,
            options.normalise,
            options.incomplete,
            options.reps,
        )
        show("writing")
        command = shlex.join(["hadamem", "compare", *arguments])
        summary = tables.summary_records(made)
        write_whole(options.out / "results.csv", tables.to_csv(tables.run_records(made)))
        write_whole(options.out / "summary.csv", tables.to_csv(summary))
        content: dict[str, Any] = {"command": command, "metric": made.metric, "baseline": made.baseline, "resamples": made.reps}
        content |= {"summary": summary, "runs": tables.run_records(made), "notes": made.notes, "versions": versions()}
        write_whole(options.out / "summary.json", json.dumps(content, indent=1) + "\n")
        for name, figure in figures.draw_all(made).items():
            show(f"drawing {name}")
            figures.save(figure, options.out / name)
        write_whole(options.out / "report.html", html.page(made, command))
    _print(made, options.metric)
    for note in made.notes:
        say(note)
    print(options.out / "report.html")


def _print(made: Comparison, metric: str) -> None:
    from ..report import figures, tables

    groups = {task: [row for row in made.rows if row.task == task] for task in made.tasks}
    for task, rows in groups.items():
        title = f"{task}: {figures.AXES[metric]} at {made.steps[task]:,.0f} environment steps [95 % interval]"
        _print_one(title, *tables.summary_texts(made, rows))
    if made.overall:
        title = f"all tasks ({len(made.shared)}): {figures.score_name(made)} [95 % interval]"
        _print_one(title, *tables.summary_texts(made, made.overall))


def _print_one(title: str, head: list[str], lines: list[list[str]]) -> None:
    table = make_table(title, head)
    table.columns[0].max_width = 40  # a long label does not push the numbers out
    for line in lines:
        table.add_row(*line)
    print_table(table)

"""A comparison as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import importlib.resources
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape

from plotly.offline import get_plotlyjs

from ..agents.config import config_from_dict
from ..recipes.command_line import train_command
from ..run import versions
from ..text import count
from .charts import Chart, Charts, looks, make_charts
from .comparison import Comparison, Scale
from .curves import COLOURS
from .figures import AXES, score_name
from .labels import flat_settings
from .tables import duration, number, run_records, summary_texts

_ABOUT = """A run's score is the mean of its last 5 % of steps. Intervals hold 95 % of {reps:,} bootstrap resamples of the runs,
drawn anew within each task (stratified; Agarwal et al., 2021). Over all tasks, the mean and the median are those of the tasks'
means, and the interquartile mean is that of all runs without the lowest and the highest quarter. The probability of improvement
is that a run does better than one of the baseline on the same task; 0.5 is neither better nor worse. Two or three runs a task
are few: their intervals are too narrow."""


def page(comparison: Comparison, command: str) -> str:
    """The page as HTML; `command` is the command line that makes it."""
    charts = make_charts(comparison)
    shown = comparison.memories[: len(COLOURS)] if comparison.overall else comparison.memories
    data = json.dumps({"charts": asdict(charts), "looks": looks(comparison), "shown": shown}, allow_nan=False)
    parts = {
        "TITLE": escape(_title(comparison)),
        "FACTS": escape(_facts(comparison)),
        "NOTES": "".join(f"<li>{escape(note)}</li>" for note in comparison.notes),
        "OVERALL": _overall(comparison, charts),
        "CURVES": "".join(_figure("curves", i, chart) for i, chart in enumerate(charts.curves)),
        "TASKS": _tasks(comparison),
        "SCALES": _scales(comparison),
        "RUNS": _runs(comparison),
        "CONFIGS": _configs(comparison),
        "VERSIONS": _versions(comparison),
        "ABOUT": escape(_ABOUT.format(reps=comparison.reps)),
        "COMMAND": escape(command),
        "DATA": data.replace("<", "\\u003c"),  # no tag can end the script early
        "PLOTLY": get_plotlyjs(),
    }
    template = importlib.resources.files(__package__).joinpath("report.html").read_text()
    pieces = template.split("@@")  # text, name, text, ..., text; inserted parts are not searched for names
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def _title(comparison: Comparison) -> str:
    memories, tasks = len(comparison.memories), len(comparison.tasks)
    return f"{memories} {'memory' if memories == 1 else 'memories'} on {count(tasks, 'task')}"


def _facts(comparison: Comparison) -> str:
    runs = [entry.result for entry in comparison.entries]
    steps, time = sum(run.steps for run in runs), duration(sum(run.seconds for run in runs))
    words = [AXES[comparison.metric], count(len(runs), "run"), f"{steps:,} environment steps", f"{time} of training"]
    return " · ".join(words + ([f"baseline {comparison.baseline}"] if comparison.baseline else []))


def _overall(comparison: Comparison, charts: Charts) -> str:
    if not comparison.overall:
        return "<p>There are no results over all tasks; the notes give the reason.</p>"
    head, lines = summary_texts(comparison, comparison.overall)
    caption = (
        f"{score_name(comparison)} over {len(comparison.shared)} of {count(len(comparison.tasks), 'task')}, with 95 % intervals"
    )
    aggregates = "".join(_figure("aggregates", i, chart) for i, chart in enumerate(charts.aggregates))
    profile = _figure("profiles", 0, charts.profiles[0])
    return (
        _table(caption, head, lines)
        + f'<div class="grid">{aggregates}</div><h3>Performance profiles</h3>'
        + f'<p class="faint">The share of runs above each score: higher is better. Bands: 95 % intervals.</p>{profile}'
    )


def _tasks(comparison: Comparison) -> str:
    tables = []
    for task in comparison.tasks:
        rows = [row for row in comparison.rows if row.task == task]
        caption = f"{task}: {AXES[comparison.metric]} at {comparison.steps[task]:,.0f} environment steps, with 95 % intervals"
        tables.append(_table(caption, *summary_texts(comparison, rows)))
    return "".join(tables)


def _scales(comparison: Comparison) -> str:
    def line(task: str, scale: Scale) -> list[str]:
        return [task, number(scale.low), number(scale.high), scale.source]

    lines = [line(task, scale) for task, scale in comparison.scales.items() if math.isfinite(scale.low)]
    if not lines:
        return ""
    return _table("What 0 and 1 of the normalised scores are", ["task", "0 is", "1 is", "which are"], lines)


def _runs(comparison: Comparison) -> str:
    head = ["task", "memory", "seed", "score", "normalised", "steps", "wall time", "machine", "device", "threads", "from"]
    lines = []
    for run in run_records(comparison):
        steps = f"{run['steps']:,}" + ("" if run["complete"] else " (not complete)")
        texts = [run["task"], run["memory"], str(run["seed"]), number(run["score"]), number(run["normalised"]), steps]
        threads = "all" if run["threads"] is None else str(run["threads"])
        lines.append([*texts, duration(run["seconds"]), run["machine"], run["device"], threads, run["path"]])
    return _table("Runs", head, lines)


def _configs(comparison: Comparison) -> str:
    """The configurations, each once: for runs that differ in seed, task and similar settings only, that of the first run."""
    seen: dict[str, list[str]] = {}
    for entry in comparison.entries:
        config = entry.result.config
        key = json.dumps([entry.memory, flat_settings(config), config["steps"]], sort_keys=True)
        seen.setdefault(key, []).append(entry.result.task)
        if len(seen[key]) == 1:
            try:
                command = train_command(config_from_dict(config))
            except ValueError as error:  # the configuration is of a version with other settings
                command = f"this version cannot give the command: {error}"
            text = json.dumps(config, indent=2)
            body = f"<pre tabindex=0>{escape(command)}</pre><pre tabindex=0>{escape(text)}</pre>"
            seen[key] = [f"{escape(entry.memory)} on TASKS</summary>{body}</details>", entry.result.task]
    made = []
    for text, *tasks in seen.values():
        where = ", ".join(dict.fromkeys(tasks))
        made.append("<details><summary>" + text.replace("TASKS", escape(where), 1))
    return "".join(made)


def _versions(comparison: Comparison) -> str:
    used = list({json.dumps(entry.result.versions): entry.result.versions for entry in comparison.entries}.values())
    columns = [("this page", versions()), *((f"runs ({i + 1})" if used[1:] else "runs", found) for i, found in enumerate(used))]
    names = list(dict.fromkeys(name for _, found in columns for name in found))
    lines = [[name, *(found.get(name, "-") for _, found in columns)] for name in names]
    return _table("Versions and hardware", ["", *(title for title, _ in columns)], lines)


def _figure(section: str, index: int, chart: Chart) -> str:
    caption = f"<figcaption>{escape(chart.title)}</figcaption>" if chart.title else ""
    place = f'id="{section}-{index}" role="img" aria-label="{escape(chart.about)}" style="height:{chart.layout["height"]}px"'
    return f"<figure>{caption}<div {place}></div></figure>"


def _table(caption: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table whose first column names the rows; numbers are aligned to the right."""
    kinds = ["" if text[:1].isdigit() or text[:1] == "-" else ' class="text"' for text in lines[0]]
    top = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(head, kinds, strict=True))
    rows = []
    for first, *rest in lines:
        cells = "".join(f"<td{kind}>{escape(text)}</td>" for text, kind in zip(rest, kinds[1:], strict=True))
        rows.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    label = escape(caption)
    table = f'<table aria-label="{label}"><thead><tr>{top}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<p class="caption">{label}</p><div class="wide" role="region" tabindex="0" aria-label="{label}">{table}</div>'

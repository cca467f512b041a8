"""The numbers of a comparison as rows: unrounded for files, as text for readers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .comparison import Comparison, Row
from .results import METRICS
from .statistics import AGGREGATES, Estimate

#: The headings of the columns of `summary_texts` by the names of their estimates.
HEAD = {"mean": "mean", "median": "median", "iqm": "interquartile mean", "normalised": "normalised mean"}


def run_records(comparison: Comparison) -> list[dict[str, Any]]:
    """A dict for each run."""
    records = []
    for entry in comparison.entries:
        result = entry.result
        records.append(
            {
                "task": result.task,
                "memory": entry.memory,
                "seed": result.seed,
                "agent": result.config["agent"],
                "metric": comparison.metric,
                "score": entry.score,
                "normalised": entry.normalised if math.isfinite(entry.normalised) else None,
                "compared_steps": int(comparison.steps[result.task]),
                "steps": result.steps,
                "complete": result.complete,
                "seconds": result.seconds,
                "machine": result.versions.get("machine", ""),
                "device": result.config["device"],
                "threads": result.config["threads"],
                "commit": result.versions.get("commit", ""),
                "full_memory": result.memory,
                **{f"last_{name}": result.scores.get(name) for name in METRICS},
                "path": result.path,
            }
        )
    return records


def summary_records(comparison: Comparison) -> list[dict[str, Any]]:
    """A dict for each memory on each task and on all tasks; missing values are None."""
    records = []
    for row in [*comparison.overall, *comparison.rows]:
        record: dict[str, Any] = {"task": row.task, "memory": row.memory, "runs": row.runs}
        for name in [*AGGREGATES, "normalised", "improvement"]:
            estimate = row.estimates.get(name, Estimate(math.nan))
            for end, value in asdict(estimate).items():
                record[name if end == "value" else f"{name}_{end}"] = value if math.isfinite(value) else None
        records.append(record)
    return records


def summary_texts(comparison: Comparison, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """A table for readers: its head, and a line for each row, beginning with the memory and the number of its runs."""
    normalised = any(math.isfinite(row.estimates["normalised"].value) for row in rows if row not in comparison.overall)
    names = [name for name in HEAD if normalised or name != "normalised"]
    head = ["memory", "runs", *(HEAD[name] for name in names)]
    if comparison.baseline:
        names.append("improvement")
        head.append(f"better than {comparison.baseline}")
    return head, [[row.memory, str(row.runs), *(_estimate(row.estimates.get(name)) for name in names)] for row in rows]


def to_csv(records: Sequence[dict[str, Any]]) -> str:
    """Records of equal keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def number(value: float | None) -> str:
    """A number as text, with fewer decimals the larger it is; "-" if it is None or NaN."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}" if abs(value) < 1000 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """A duration as text, such as 3 h 05 min."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    if math.isnan(estimate.low):
        return number(estimate.value)
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"

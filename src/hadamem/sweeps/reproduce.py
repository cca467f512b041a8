"""The experiments of the SHM paper (Le et al. 2025, arXiv:2410.10132), defined by the files in reproductions/."""

from __future__ import annotations

import pathlib
import shlex
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .sweep import SweepRun, make_cells, page, summary

Budget = Literal["full", "small", "tiny"]
FOLDER = pathlib.Path(__file__).parent / "reproductions"
NAMES = ("popgym", "meta-rl", "credit-assignment", "ablation-calibration", "ablation-memory-size")


@dataclass(frozen=True)
class Reproduction:
    """An experiment with a budget.

    Attributes:
        about: description of the experiment, in one line.
        notes: differences from the published experiment, with reasons.
        cells: the runs of the experiment.
        columns: title of the column of every memory, by the memory's text in `cells`.
    """

    about: str
    notes: Sequence[str]
    cells: Sequence[SweepRun]
    columns: dict[str, str]


def read_reproduction(name: str, budget: Budget, out: pathlib.Path, threads: int) -> Reproduction:
    """Read an experiment by its name; its run folders are out/NAME-BUDGET/TASK/MEMORY-sSEED."""
    content = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    cells, columns = list[SweepRun](), dict[str, str]()
    for part in content[budget]:
        memories, words = part["memories"], shlex.split(part["options"])
        columns |= {memory: column for column, memory in memories.items()}
        folder = out / f"{name}-{budget}"
        cells += make_cells(part["tasks"], list(memories.values()), range(part["seeds"]), words, folder, threads)
    return Reproduction(content["about"], content["notes"], cells, columns)


def rows(reproduction: Reproduction) -> list[dict[str, str]]:
    """A row for each task, a column for each memory: mean return over the last 5 % of the steps, ± its standard deviation over
    seeds, the success rate if the task reports it, and the number of failed runs. Runs that are not complete are left out."""
    table: dict[str, dict[str, str]] = {}
    for cell in reproduction.cells:
        head = {"task": cell.task, "steps": f"{cell.config.steps:,}"}
        table.setdefault(cell.task, head | dict.fromkeys(reproduction.columns.values(), ""))
    for done in summary(reproduction.cells):
        table[done.task][reproduction.columns[done.memory]] = done.score()
    for (task, memory), runs in Counter(
        (cell.task, cell.memory) for cell in reproduction.cells if cell.state == "failed"
    ).items():
        row, column = table[task], reproduction.columns[memory]
        row[column] = ", ".join(filter(None, [row[column], f"{runs} failed"]))
    return list(table.values())


def page_of(name: str, budget: Budget, reproduction: Reproduction) -> str:
    """The table of an experiment as a Markdown page, with the command that makes it."""
    command = f"hadamem reproduce {name} --budget {budget}"
    table = rows(reproduction)
    return page(f"{name}, {budget}", reproduction.about, command, table, reproduction.cells, reproduction.notes)

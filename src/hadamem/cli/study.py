"""The command `hadamem study`."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import tyro

from ..studies import STUDIES, Budget, load_study
from .console import print_rows, say, show_status


@dataclass
class AskedStudy:
    """Ask one question of the memories: a table, a picture, and a conclusion made of the numbers."""

    name: tyro.conf.Positional[str]
    """which study"""
    budget: Budget = "small"
    """how much is measured: all of it, what two cores do within an hour, or just enough to see that it runs"""
    out: pathlib.Path = pathlib.Path("runs/studies")
    """folder of NAME.json, .md, .png and .pdf"""
    work: pathlib.Path = pathlib.Path("runs/studies/work")
    """folder of finished parts: started again, a study goes on from there"""
    seed: int = 0
    """seed of all random generators"""
    threads: int | None = None
    """number of processor threads to use; None: all"""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; it must be at least 1")


def study(arguments: Sequence[str]) -> None:
    """Ask one question of the memories: table, picture, conclusion"""
    names = ", ".join(STUDIES)
    given = tyro.cli(AskedStudy, args=arguments, prog="hadamem study", description=f"{AskedStudy.__doc__} Studies: {names}.")
    asked = load_study(given.name)
    from ..studies.base import write_findings

    if given.threads is not None:
        torch.set_num_threads(given.threads)
    say(f"{asked.about}; the {given.budget} budget takes {asked.expected[given.budget]}")
    threads = torch.get_num_threads()
    work = given.work / f"{given.name}-{given.budget}-s{given.seed}-t{threads}"
    with show_status() as show:
        findings = asked.run(given.budget, work, show, given.seed)
    chosen = ["--budget", given.budget, "--seed", str(given.seed), "--threads", str(threads)]
    command = shlex.join(["hadamem", "study", given.name, *chosen])
    write_findings(given.name, command, findings, given.out)
    print_rows(findings.question, [dict(row) for row in findings.rows])
    print(" ".join(findings.conclusion))
    print(given.out / f"{given.name}.md")

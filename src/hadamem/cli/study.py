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
    """Answer one question about the memories with a table, a picture, and a conclusion computed from the numbers."""

    name: tyro.conf.Positional[str]
    """name of the study"""
    budget: Budget = "small"
    """full: everything is measured; small: as much as 2 cores measure within an hour; tiny: just enough to see that it runs"""
    out: pathlib.Path = pathlib.Path("runs/studies")
    """folder that NAME.json, .md, .png and .pdf are written to"""
    work: pathlib.Path = pathlib.Path("runs/studies/work")
    """folder of finished parts, from which a study continues if it is started again"""
    seed: int = 0
    """seed of all random generators"""
    threads: int | None = None
    """number of processor threads to use; None: all"""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; it must be at least 1")


def study(arguments: Sequence[str]) -> None:
    """Answer one question about the memories: table, picture, conclusion"""
    names = ", ".join(STUDIES)
    options = tyro.cli(AskedStudy, args=arguments, prog="hadamem study", description=f"{AskedStudy.__doc__} Studies: {names}.")
    asked = load_study(options.name)
    from ..studies.base import write_findings

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    say(f"{asked.about}; the {options.budget} budget takes {asked.expected[options.budget]}")
    threads = torch.get_num_threads()
    work = options.work / f"{options.name}-{options.budget}-s{options.seed}-t{threads}"
    with show_status() as show:
        findings = asked.run(options.budget, work, show, options.seed)
    chosen = ["--budget", options.budget, "--seed", str(options.seed), "--threads", str(threads)]
    command = shlex.join(["hadamem", "study", options.name, *chosen])
    write_findings(options.name, command, findings, options.out)
    print_rows(findings.question, findings.rows)
    print(" ".join(findings.conclusion))
    print(options.out / f"{options.name}.md")

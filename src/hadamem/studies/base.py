"""The form of every study: a function from a budget to findings, which are written as JSON, a picture and a page of text."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from matplotlib.figure import Figure

from ..disk import write_whole
from ..options import read_json
from ..run import versions
from ..text import columns, markdown_table
from . import Budget

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T")


@dataclass(frozen=True)
class Findings:
    """The results of a study.

    Attributes:
        question: the question that the study answers, in a sentence.
        rows: the rows of the table, instances of one dataclass; `text.columns` gives their headings.
        conclusion: three sentences, computed from the measurements.
        figure: the picture.
        notes: sentences about how the numbers were measured, and what was left out.
    """

    question: str
    rows: Sequence[DataclassInstance]
    conclusion: Sequence[str]
    figure: Figure
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Study:
    """A study that `hadamem study` can run.

    Attributes:
        about: the subject of the study, in a few words.
        run: (budget, folder where finished parts may be kept, function that takes messages on progress, seed) -> findings.
        expected: how long each budget takes on 2 cores, in words.
    """

    about: str
    run: Callable[[Budget, pathlib.Path, Callable[[str], None], int], Findings]
    expected: Mapping[Budget, str]


def cached_json(file: pathlib.Path, make: Callable[[], Any]) -> Any:
    """The content of a JSON file. If the file does not exist, the result of `make` is written to it first."""
    if not file.exists():
        write_whole(file, json.dumps(make()))
    return json.loads(file.read_text())


def cached_record(file: pathlib.Path, kind: type[_T], make: Callable[[], _T]) -> _T:
    """As `cached_json`, for a dataclass of this kind."""
    return read_json(kind, cached_json(file, lambda: asdict(cast("DataclassInstance", make()))))


def write_findings(name: str, command: str, findings: Findings, folder: pathlib.Path) -> None:
    """Write NAME.json (rows, conclusion, versions), NAME.png, NAME.pdf and NAME.md into the folder."""
    content = {
        "command": command,
        "question": findings.question,
        "rows": [columns(row) for row in findings.rows],
        "conclusion": list(findings.conclusion),
        "notes": list(findings.notes),
        "versions": versions(),
    }
    write_whole(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")
    for ending in ("png", "pdf"):
        findings.figure.savefig(folder / f"{name}.{ending}", dpi=150)
    write_whole(folder / f"{name}.md", page(name, command, findings))


def page(name: str, command: str, findings: Findings) -> str:
    """The findings as Markdown."""
    parts = [
        f"# Study: {name}",
        findings.question,
        f"```bash\n{command}\n```",
        " ".join(findings.conclusion),
        f"![{name}]({name}.png)",
        markdown_table(findings.rows),
        *findings.notes,
    ]
    return "\n\n".join(parts) + "\n"

"""What every study is: a function from a budget to findings, which are kept as JSON, a picture and a page of text."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from ..disk import write_whole
from ..run import versions
from ..text import columns, markdown_table
from . import Budget

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Findings:
    """What a study found.

    Attributes:
        question: what it asks, in a sentence.
        rows: the table, dataclasses of one kind, see `text.columns`.
        conclusion: three sentences, made of the numbers in the rows.
        figure: the picture.
        notes: how it was measured, what was left out, in sentences.
    """

    question: str
    rows: Sequence[DataclassInstance]
    conclusion: Sequence[str]
    figure: Figure
    notes: Sequence[str] = ()

    def table(self) -> list[dict[str, Any]]:
        """The rows by the headings of their columns."""
        return [columns(row) for row in self.rows]


@dataclass(frozen=True)
class Study:
    """A study by name.

    Attributes:
        about: what it asks, in a few words.
        run: (budget, folder where work in progress may be kept, what to tell of progress, seed) -> findings.
        expected: how long each budget takes on 2 cores, in words.
    """

    about: str
    run: Callable[[Budget, pathlib.Path, Callable[[str], None], int], Findings]
    expected: Mapping[Budget, str]


def cached_json(file: pathlib.Path, make: Callable[[], Any]) -> Any:
    """The content of a JSON file; where there is none, what `make` returns, which is written there for the next time."""
    if not file.exists():
        write_whole(file, json.dumps(make()))
    return json.loads(file.read_text())


def write_findings(name: str, command: str, findings: Findings, folder: pathlib.Path) -> None:
    """Write NAME.json (rows, conclusion, versions), NAME.png, NAME.pdf and NAME.md into the folder."""
    content = {
        "command": command,
        "question": findings.question,
        "rows": findings.table(),
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
        markdown_table(findings.table()),
        *findings.notes,
    ]
    return "\n\n".join(parts) + "\n"

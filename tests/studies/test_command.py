"""The command, its registry, and what every study writes."""

from __future__ import annotations

import json
import pathlib
import sys
from dataclasses import dataclass
from typing import Annotated

import pytest
from matplotlib.figure import Figure

from hadamem import studies
from hadamem.cli.main import main
from hadamem.studies.base import Findings, Study, cached_json, write_findings


@dataclass
class Answer:
    memory: str
    right: Annotated[float | None, "right, share"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["hadamem", "study", *map(str, arguments)])
    main()


def test_a_study_is_given_what_was_asked_for_and_leaves_four_files(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def answer(*given: object) -> Findings:
        asked.append(given)
        return Findings("Why?", [Answer("gru", 0.5)], ["Half is right."], Figure(), ["Measured twice."])

    study = Study("why", answer, {"full": "long", "small": "short", "tiny": "no time"})
    monkeypatch.setattr("hadamem.cli.study.load_study", lambda name: study)
    run(
        monkeypatch, "capacity", "--budget", "tiny", "--seed", 3, "--threads", 1, "--out", tmp_path, "--work", tmp_path / "work"
    )
    budget, folder, _, seed = asked[0]
    assert (budget, folder, seed) == ("tiny", tmp_path / "work" / "capacity-tiny-s3-t1", 3)
    assert {file.name for file in tmp_path.iterdir()} == {f"capacity.{ending}" for ending in ("json", "md", "png", "pdf")}
    told = json.loads((tmp_path / "capacity.json").read_text())
    assert told["rows"] == [{"memory": "gru", "right, share": 0.5}]
    assert told["command"] == "hadamem study capacity --budget tiny --seed 3 --threads 1"
    page = (tmp_path / "capacity.md").read_text()
    assert all(
        words in page
        for words in (
            "Why?",
            "| memory | right, share |",
            "| gru | 0.5 |",
            "Half is right.",
            "Measured twice.",
            "(capacity.png)",
        )
    )
    assert "Half is right." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "answer"), [(["stabilty"], "did you mean stability"), (["capacity", "--threads", "0"], "at least 1")]
)
def test_mistakes_are_answered(
    arguments: list[str], answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, *arguments)
    assert answer in capsys.readouterr().err


def test_finished_parts_are_not_made_again(tmp_path: pathlib.Path) -> None:
    made = []
    for _ in range(2):
        assert cached_json(tmp_path / "work" / "part.json", lambda: made.append(1) or {"x": [1.5, None]}) == {"x": [1.5, None]}
    assert made == [1]


@pytest.mark.parametrize("name", ["stability", "capacity"])
def test_studies_say_how_long_each_budget_takes(name: str) -> None:
    study = studies.load_study(name)
    assert set(study.expected) == {"full", "small", "tiny"}
    assert study.about


def test_what_no_cell_of_a_table_may_lack(tmp_path: pathlib.Path) -> None:
    """Nothing measured (None) is an empty cell, not the word None."""
    write_findings("x", "hadamem study x", Findings("?", [Answer("gru", None)], ["."], Figure()), tmp_path)
    assert "| gru |  |" in (tmp_path / "x.md").read_text()

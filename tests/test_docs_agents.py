"""Every agent that README and the guide train learns something. A file of its own: it takes long, and workers share files."""

from __future__ import annotations

import json
import pathlib
import shlex

import pytest

from test_docs import BLOCK, FILES, run_line, shell_lines, write_module


def trainings() -> list[tuple[pathlib.Path, str]]:
    """Every command of the pages that trains an agent from its beginning."""
    blocks = [(file, text) for file in FILES for language, text in BLOCK.findall(file.read_text()) if language == "bash"]
    lines = [(file, line) for file, text in blocks for line in shell_lines(text)]
    return [(file, line) for file, line in lines if line.startswith("hadamem train ") and "--resume" not in line]


@pytest.mark.parametrize(("file", "command"), trainings(), ids=[command for _, command in trainings()])
def test_agents_beat_random_play(
    file: pathlib.Path, command: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedily and on episodes of their own, by more than the two means are uncertain."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for language, text in BLOCK.findall(file.read_text()):
        if language == "python":
            write_module(text, tmp_path)
    words = shlex.split(command)
    run_line(command)
    run_line(f"hadamem evaluate {words[words.index('--out') + 1]} --episodes 100 --json result.json")
    trained = json.loads((tmp_path / "result.json").read_text())
    random = trained["random"]
    assert trained["mean"] - random["mean"] > trained["ci95"] + random["ci95"]

"""Every code block of the README and the guide runs: Python blocks in order in one namespace a file, shell lines one by one."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shell_lines(text: str) -> list[str]:
    """The commands of a block, without comments."""
    lines = (line.split("#")[0].strip() for line in text.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_code_blocks_run(file: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    blocks = BLOCK.findall(file.read_text())
    assert blocks
    assert not re.search(r"^(RESULTS|OPS|TRAIN)$", file.read_text(), re.MULTILINE), "results are missing"
    namespace: dict = {"__name__": "__main__"}
    for language, text in blocks:
        assert language in ("python", "bash", "text"), f"a block of {file.name} is marked {language!r}"
        if language == "python":
            write_module(text, tmp_path)
            exec(compile(text, f"{file.name}: block", "exec"), namespace)
        elif language == "bash":
            for line in shell_lines(text):
                if "--resume" not in line:  # with all its steps it is trained below
                    line = re.sub(r"^(hadamem train .*--steps) \d+", r"\1 500", line)
                run_line(line, tmp_path)


def write_module(text: str, folder: pathlib.Path) -> None:
    """Write a block that begins with the name of a file, which later commands import."""
    if name := re.match(r"# (\w+\.py)\n", text):
        (folder / name[1]).write_text(text)


def run_line(line: str, folder: pathlib.Path) -> None:
    words = line.split()
    if words[0] == "make":  # the target exists; what it does is tested by doing it
        assert (
            shutil.which("make") is None
            or not subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True).returncode
        )
    elif words[0] == "hadamem":
        done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    else:  # installing, fetching, watching: a known program, not run
        assert words[0] in ("git", "cd", "pip", "tensorboard"), f"nobody knows how to test {line!r}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_links_lead_somewhere(file: pathlib.Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", file.read_text()):
        assert target.startswith("http") or (file.parent / target).exists(), target

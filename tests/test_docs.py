"""Every code block of the README and the guide runs: Python blocks in order in one namespace a file, shell lines one by one."""

from __future__ import annotations

import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

import hadamem
from hadamem.cli.main import main
from hadamem.run import read_metrics

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = [page for page in PAGES if BLOCK.search(page.read_text())]


def shell_lines(text: str) -> list[str]:
    """The commands of a block, without comments."""
    lines = (line.split("#")[0].strip() for line in text.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_code_blocks_run(file: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    blocks = BLOCK.findall(file.read_text())
    assert not re.search(r"^(RESULTS|OPS|TRAIN)$", file.read_text(), re.MULTILINE), "results are missing"
    namespace: dict = {"__name__": "__main__"}
    for language, text in blocks:
        assert language in ("python", "bash", "text"), f"a block of {file.name} is marked {language!r}"
        if language == "python":
            write_module(text, tmp_path)
            exec(compile(text, f"{file.name}: block", "exec"), namespace)
        elif language == "bash":
            for line in shell_lines(text):
                steps = 1000 if "--resume" in line else 500  # with all its steps it is trained in test_docs_agents.py
                line = re.sub(r"^(hadamem train .*--steps) \d+", rf"\1 {steps}", line)
                run_line(line)


def write_module(text: str, folder: pathlib.Path) -> None:
    """Write a block that begins with the name of a file, which later commands import."""
    if name := re.match(r"# (\w+\.py)\n", text):
        (folder / name[1]).write_text(text)


def run_line(line: str) -> None:
    """Run a command of hadamem in the current folder, in this process: it would take longer to start another one."""
    words = shlex.split(line)
    if words[0] == "make":  # the target exists; what it does is tested by doing it
        assert (
            shutil.which("make") is None
            or not subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True).returncode
        )
    elif words[0] == "hadamem":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words)
            patch.setattr(sys, "path", [*sys.path])
            code: object = None
            try:
                main()
            except SystemExit as ended:
                code = ended.code
            assert not code, line
    else:  # installing, fetching, watching: a known program, not run
        assert words[0] in ("git", "cd", "pip", "tensorboard"), f"nobody knows how to test {line!r}"


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_links_lead_somewhere(file: pathlib.Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", file.read_text()):
        assert target.startswith("http") or (file.parent / target).exists(), target


LEARNERS = {
    "ppo": {"num_steps": 16, "minibatches": 2, "kl_coefficient": 0.1, "evaluate_every": 100, "evaluate_episodes": 2},
    "r2d2": {"num_steps": 16, "warmup_steps": 100, "batch_size": 4, "updates_per_step": 0.02},
    "sac": {"num_steps": 16, "warmup_steps": 100, "batch_size": 4, "updates_per_step": 0.02},
}


@pytest.mark.parametrize("agent", LEARNERS)
def test_the_guide_explains_every_metric(agent: str, tmp_path: pathlib.Path) -> None:
    kind = {"ppo": hadamem.PPO, "r2d2": hadamem.R2D2, "sac": hadamem.SAC}[agent]
    kind("mlp", "CartPole-v1", num_envs=4, **LEARNERS[agent]).learn(400, out=tmp_path / "run")
    names = {name for line in read_metrics(tmp_path / "run") for name in line} - {"step"}
    assert {"ppo": {"kl_coefficient", "evaluation_return"}, "r2d2": {"q_loss"}, "sac": {"critic_loss"}}[agent] <= names
    section = (ROOT / "docs" / "guide.md").read_text().split("## When it does not learn")[1].split("\n## ")[0]
    assert not [name for name in names if f"`{name}`" not in section]

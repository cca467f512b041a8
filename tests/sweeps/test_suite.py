"""Suites: every task of theirs exists, and a sweep takes their tasks, memories and steps."""

from __future__ import annotations

import json
import pathlib

import gymnasium
import pytest

from hadamem.cli.sweep import sweep
from hadamem.envs.tasks import load, parse_options
from hadamem.memory import memory_class
from hadamem.sweeps.suite import NAMES, read_suite
from hadamem.sweeps.sweep import make_cells

TINY = """
about = "two tasks"
memories = ["mlp", "gru:8"]

[steps]
"hadamem/TMazePassive-v0 corridor_length=3" = 320
"hadamem/PocMemory-v0" = 480
"""
SMALL = ("--num-envs", "4", "--num-steps", "40", "--minibatches", "2", "--epochs", "1", "--threads", "1", "--jobs", "2")


def test_the_suites_share_no_task() -> None:
    assert NAMES == ("classic", "develop", "heldout")
    classic, develop, heldout = (read_suite(name) for name in NAMES)
    tasks = [task for suite in (classic, develop, heldout) for task in suite.steps]
    assert len(set(tasks)) == len(tasks)
    assert develop.memories == heldout.memories


@pytest.mark.parametrize("task", [task for name in NAMES for task in read_suite(name).steps])
def test_every_task_can_be_made(task: str) -> None:
    id, *texts = task.split()
    for name, module in (("MiniGrid", "minigrid"), ("LunarLander", "Box2D"), ("Bipedal", "Box2D"), ("Labyrinth", "mazelib")):
        if name in id:
            pytest.importorskip(module, reason=f"{id} needs {module}")
    env = gymnasium.make(load(id), disable_env_checker=True, **parse_options(id, texts))
    env.reset(seed=0)
    env.step(env.action_space.sample())


@pytest.mark.parametrize("name", NAMES)
def test_every_memory_exists(name: str) -> None:
    for memory in read_suite(name).memories:
        memory_class(memory)


def steps_made(folder: pathlib.Path) -> dict[str, int]:
    files = sorted(folder.glob("*/*/result.json"))
    return {f"{file.parts[-3]}/{file.parts[-2]}": json.loads(file.read_text())["steps"] for file in files}


def test_a_sweep_takes_a_suite_and_finishes_what_is_missing(tmp_path: pathlib.Path) -> None:
    file, out = tmp_path / "tiny.toml", tmp_path / "out"
    file.write_text(TINY)
    command = ["--suite", str(file), "--out", str(out), "--data", "None", *SMALL]
    maze, poc = "hadamem.TMazePassive-v0-corridor_length=3", "hadamem.PocMemory-v0"
    sweep([*command, "--memories", "mlp"])
    assert steps_made(out) == {f"{maze}/mlp-s0": 320, f"{poc}/mlp-s0": 480}
    before = (out / maze / "mlp-s0" / "result.json").stat().st_mtime_ns
    sweep(command)
    assert steps_made(out) == {
        f"{maze}/gru.8-s0": 320, f"{maze}/mlp-s0": 320, f"{poc}/gru.8-s0": 480, f"{poc}/mlp-s0": 480,
    }  # fmt: skip
    assert (out / maze / "mlp-s0" / "result.json").stat().st_mtime_ns == before
    page = tmp_path / "page.md"
    sweep([*command, "--seeds", "2", "--dry-run", "--page", str(page)])
    assert len(steps_made(out)) == 4  # nothing more was trained
    text = page.read_text()
    assert "# Suite tiny\n" in text
    assert "| task | mlp | gru:8 |" in text
    assert "4 of 8 runs" in text
    assert "Mean rank by return over 2 tasks that every memory has played (1 is the best): " in text
    assert "--dry-run" not in text


@pytest.mark.parametrize("words", [(), ("--steps", "160"), ("--steps=160",)])
def test_steps_on_the_command_line_are_for_all_tasks(words: tuple[str, ...]) -> None:
    steps = {"hadamem/PocMemory-v0": 480, "CartPole-v1": 320}
    made = make_cells(list(steps), ["mlp", "gru"], [0], words, pathlib.Path("out"), 1, steps)
    assert {cell.task: cell.config.steps for cell in made} == (dict.fromkeys(steps, 160) if words else steps)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"suite is '.*tiny.toml'; it must be one of classic, develop, heldout, or a TOML file"),
        ("memories = [", "must set about, memories and a table"),
        (TINY.replace("about", "words"), "must set about, memories and a table .*'words'"),
        (TINY.replace("480", "0"), "steps of 'hadamem/PocMemory-v0' in .*tiny.toml is 0; it must be a whole number"),
        (TINY.replace("480", '"many"'), "steps of 'hadamem/PocMemory-v0' in .*tiny.toml is 'many'; it must be"),
    ],
)
def test_bad_suites_are_answered(content: str | None, message: str, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "tiny.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_suite(str(file))


@pytest.mark.parametrize("words", [("--memories", "mlp"), ("--suite", "develop", "--tasks", "CartPole-v1")])
def test_a_sweep_needs_either_tasks_or_a_suite(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sweep(list(words))
    assert "give either --tasks or --suite" in capsys.readouterr().err

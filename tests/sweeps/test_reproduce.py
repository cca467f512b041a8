"""The paper's experiments: every file of every budget can be trained, and the smallest is."""

from __future__ import annotations

import pathlib
import re
from dataclasses import asdict, replace

import pytest

from hadamem.agents.making import make_environment, make_policy
from hadamem.cli.sweep import reproduce
from hadamem.report.results import Result
from hadamem.sweeps.duration import expected
from hadamem.sweeps.reproduce import FOLDER, NAMES, read_reproduction, rows
from hadamem.sweeps.sweep import SweepRun

TASKS = ("Autoencode", "Battleship", "Concentration", "RepeatPrevious")


def cells(name: str, budget: str) -> list[SweepRun]:
    return list(read_reproduction(name, budget, pathlib.Path("out"), 1).cells)


def test_every_file_is_an_experiment() -> None:
    assert sorted(NAMES) == sorted(file.stem for file in FOLDER.iterdir())


@pytest.mark.parametrize("budget", ["full", "small", "tiny"])
@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_can_be_built(name: str, budget: str) -> None:
    seen = set()
    for cell in cells(name, budget):
        if cell.memory not in seen:  # its options and those of the first task are understood
            seen.add(cell.memory)
            env = make_environment(cell.config, 1, 0)
            make_policy(cell.config, env)
            env.close()


def test_popgym_is_what_was_released_and_what_the_paper_describes() -> None:
    full = {(cell.task, cell.memory): cell.config for cell in cells("popgym", "full")}
    assert len(cells("popgym", "full")) == 12 * 4 * 3
    for memory in ("shm theta=fixed", "shm theta=random"):
        easy, hard = full["popgym-AutoencodeEasy-v0", memory], full["popgym-AutoencodeHard-v0", memory]
        assert (easy.memory_size, hard.memory_size, easy.steps, easy.ppo.epochs) == (128, 32, 15_000_000, 30)
        assert set(easy.memory_options) == set(hard.memory_options) == {"shortcut=true", memory.split()[1]}
    small = cells("popgym", "small")
    assert {(cell.task, cell.seed) for cell in small} >= {(f"popgym-{task}Easy-v0", 2) for task in TASKS}
    assert {cell.task for cell in small} == {cell.task for cell in cells("popgym", "full")}
    assert min(cell.config.steps for cell in small) == 1_000_000
    released = next(cell.config for cell in small if cell.memory == "shm feature_map=relu_sum read_norm=false")
    assert set(released.memory_options) == {"feature_map=relu_sum", "read_norm=false"}


def test_tiny(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    reproduce(["popgym", "--budget", "tiny", "--dry-run"])
    assert "2 of 2 runs to do" in capfd.readouterr().out
    assert not pathlib.Path("runs").exists()
    reproduce(["popgym", "--budget", "tiny", "--jobs", "2"])
    told = capfd.readouterr().out
    assert told.index("2 of 2 runs to do") < told.index("2 done") < told.index("SHM, theta random")
    table = pathlib.Path("runs/reproduce/popgym-tiny.md").read_text()
    assert "2 of 2 runs" in table
    assert re.search(r"\| popgym-RepeatPreviousEasy-v0 \| 640 \| -0\.\d+ \| -0\.\d+ \|", table)
    again = read_reproduction("popgym", "tiny", pathlib.Path("runs/reproduce"), 1)
    assert all((cell.path / "result.json").exists() for cell in again.cells)
    reproduce(["popgym", "--budget", "tiny", "--dry-run"])
    assert "0 of 2 runs to do" in capfd.readouterr().out


def test_durations_are_taken_from_results(monkeypatch: pytest.MonkeyPatch) -> None:
    there, other_seed, other_task, other_memory = (
        next(
            cell
            for cell in cells("popgym", "small")
            if (cell.task, cell.memory, cell.seed) == (f"popgym-{task}-v0", memory, seed)
        )
        for task, memory, seed in (
            ("ConcentrationEasy", "gru", 0),
            ("ConcentrationEasy", "gru", 1),
            ("ConcentrationHard", "gru", 0),
            ("ConcentrationEasy", "ffm", 0),
        )
    )
    there.state = "kept"
    there.result = Result("", asdict(there.config), {}, True, 1_000_000, 500.0, {}, {})
    monkeypatch.setattr("hadamem.sweeps.duration.measure", lambda config: 1e-3)
    other_memory.config = replace(other_memory.config, steps=2_000_000)
    duration = expected([there, other_seed, other_task, other_memory], None, lambda what: None)
    assert (duration.seconds, duration.results, duration.measured) == (500 + 500 + 2000, 2, 1)


def test_rows_hold_every_column() -> None:
    experiment = read_reproduction("popgym", "small", pathlib.Path("out"), 1)
    for cell in experiment.cells[:1]:
        cell.state = "done"
        cell.result = Result("", asdict(cell.config), {}, True, 10, 1.0, {}, {"return": 0.5, "success": 0.25})
    experiment.cells[1].state = "failed"
    table = rows(experiment)
    assert len(table) == 12
    assert list(table[0])[:4] == ["task", "steps", "SHM, theta fixed", "SHM, theta random"]
    assert {*table[0]} == {"task", "steps", *experiment.columns.values()}
    assert table[0]["SHM, theta fixed"] == "0.500, 25.0%"
    assert table[0]["SHM, theta random"] == "1 failed"
    assert table[1]["GRU"] == ""

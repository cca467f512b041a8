"""Sweeps: which runs there are, what counts as done, kills, failures."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from hadamem.cli.sweep import sweep
from hadamem.report.results import config_key, find_results
from hadamem.run import read_checkpoint, read_metrics
from hadamem.sweeps.processes import ended, run_here, start
from hadamem.sweeps.sweep import Summary, SweepRun, finish, keep_what_is_there, make_cells, mean_ranks, summary

TMAZE = "hadamem/TMazePassive-v0 corridor_length=3"
SMALL = ("--num-envs", "4", "--num-steps", "40", "--minibatches", "2", "--epochs", "1", "--threads", "1")


def cells(tasks: list[str], memories: list[str], *words: str, seeds: int = 1, out: str = "out") -> list[SweepRun]:
    return make_cells(tasks, memories, range(seeds), words, pathlib.Path(out), threads=1)


def test_ranks_are_of_tasks_that_all_have_played() -> None:
    returns = {"one": {"a": 1.0, "b": 2.0, "c": 2.0}, "two": {"a": 3.0, "b": 2.0, "c": 1.0}, "three": {"a": 9.0}}
    rows = [Summary(task, name, 1, value, None, None, 1, 1.0) for task, row in returns.items() for name, value in row.items()]
    tasks, ranks = mean_ranks(rows)
    assert tasks == 2
    assert list(ranks.items()) == [("b", 1.75), ("a", 2.0), ("c", 2.25)]  # b and c share the ranks 1 and 2 of the first task
    assert mean_ranks(rows[-1:]) == (1, {"a": 1.0})
    assert mean_ranks([]) == (0, {})


def test_options_take_the_place_of_the_presets_and_the_rest_stays() -> None:
    tasks, memories = ["popgym-AutoencodeEasy-v0", TMAZE], ["shm", "shm:16 theta=fixed feature_map=relu_sum", "gru:256"]
    grid = cells(tasks, memories, "--preset", "popgym-fast", "--steps", "500", "--clip", "0.3", seeds=2)
    configs = {(cell.task, cell.memory, cell.seed): cell.config for cell in grid}
    assert len(configs) == len(grid) == 12
    assert [cell.seed for cell in grid] == [0] * 6 + [1] * 6
    assert all((config.steps, config.ppo.clip, config.threads) == (500, 0.3, 1) for config in configs.values())
    assert configs[tasks[0], "shm", 0].ppo.gamma == 0  # the preset's for this task
    assert configs[TMAZE, "shm", 0].ppo.gamma == 0.99
    assert configs[TMAZE, "shm", 0].env_options == ("corridor_length=3",)
    assert configs[TMAZE, "shm", 1].memory_options == ("feature_map=softmax", "read_norm=true")
    ours = configs[TMAZE, memories[1], 1]
    assert (ours.memory_size, ours.memory_options) == (16, ("read_norm=true", "theta=fixed", "feature_map=relu_sum"))
    assert configs[TMAZE, "gru:256", 0].memory_size == 256
    assert cells([TMAZE], ["mlp"], "--preset", "meta-fast")[0].config.ppo.num_envs == 512


def test_folders_are_named_after_the_run() -> None:
    paths = [str(cell.path) for cell in cells([TMAZE], ["mlp", "shm:16  theta=fixed"])]
    folder = "out/hadamem.TMazePassive-v0-corridor_length=3"
    assert paths == [f"{folder}/mlp-s0", f"{folder}/shm.16-theta=fixed-s0"]


@pytest.mark.parametrize(
    ("memories", "words", "told"),
    [
        (["mlp", "mlp"], (), "the same twice"),
        (["shm", "shm:32"], (), "the same twice"),  # 32 is the preset's
        (["smh"], (), "shm"),
        ([], (), "memories is empty"),
        (["mlp"], ("--env-options", "x=1"), "--env-options cannot be given to all"),
        (["mlp"], ("--seed=1",), "--seed cannot be given to all"),
    ],
)
def test_bad_grids_are_answered(memories: list[str], words: tuple[str, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        cells([TMAZE], memories, *words)


def test_a_failing_run_does_not_stop_the_others_and_data_counts_as_done(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = "hadamem/TMazePassive-v0 corridor_length=-3"
    command = ["--tasks", bad, TMAZE, "--memories", "mlp", "--steps", "320", "--data", "data", *SMALL]
    with pytest.raises(SystemExit) as end:
        sweep([*command, "--jobs", "1", "--out", "first"])
    assert end.value.code == 1
    told = capfd.readouterr()
    assert "corridor_length is -3" in told.err
    assert "first/hadamem.TMazePassive-v0-corridor_length=-3/mlp-s0.log" in told.err
    [result] = find_results([tmp_path / "data"])
    assert (result.task, result.memory, result.complete) == ("hadamem/TMazePassive corridor_length=3", "mlp", True)

    # what was committed before a field was added to the configuration still counts
    file = pathlib.Path(result.path)
    saved = json.loads(file.read_text())
    assert saved["config"].pop("evaluate_every", 0) is saved["config"]["ppo"].pop("value_clip", 0) is None
    file.write_text(json.dumps(saved))
    with pytest.raises(SystemExit):
        sweep([*command, "--jobs", "2", "--out", "second"])
    assert "mlp on hadamem/TMazePassive-v0 corridor_length=3" not in capfd.readouterr().out
    assert not (tmp_path / "second" / "hadamem.TMazePassive-v0-corridor_length=3").exists()


def test_what_learns_something_else_does_not_count(tmp_path: pathlib.Path) -> None:
    words, data = ("--steps", "320", *SMALL), tmp_path / "data"
    grid = cells([TMAZE], ["mlp"], *words, out=str(tmp_path / "out"))
    keep_what_is_there(grid, data, data)
    assert [cell.state for cell in grid] == ["waiting"]
    run_here(grid, 1, lambda cell: None, lambda: None)
    for threads, state in ((2, "kept"), (3, "kept")):
        again = make_cells([TMAZE], ["mlp"], [0], words[:-2], tmp_path / "out", threads)
        keep_what_is_there(again, data, data)
        assert again[0].state == state
        assert again[0].config.threads == threads
    elsewhere = cells([TMAZE], ["mlp"], *words, out=str(tmp_path / "elsewhere"))
    keep_what_is_there(elsewhere, data, data)
    [row] = summary(elsewhere)
    assert (row.runs, row.steps, row.deviation) == (1, 320, None)
    longer = cells([TMAZE], ["mlp"], *words, "--gamma", "0.5", out=str(tmp_path / "elsewhere"))
    keep_what_is_there(longer, data, data)
    assert longer[0].state == "waiting"
    other = cells([TMAZE], ["mlp"], *words, "--gamma", "0.5", out=str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"other settings \(ppo\)"):
        keep_what_is_there(other, None)


def test_a_whole_number_counts_the_same_with_and_without_a_point(tmp_path: pathlib.Path) -> None:
    (cell,) = make_cells(["CartPole-v1"], ["gru"], [0], ["--max-grad-norm", "30"], tmp_path, 1)
    config = asdict(cell.config)
    assert config_key(config) == config_key(config | {"ppo": config["ppo"] | {"max_grad_norm": 30}})
    assert config_key(config) != config_key(config | {"ppo": config["ppo"] | {"max_grad_norm": 30.5}})
    options = [{"memory_options": ["heads=2", "theta=fixed"]}, {"memory_options": ["theta=fixed", "heads=2"]}]
    assert config_key(config | options[0]) == config_key(config | options[1])
    assert config_key(config | options[0]) != config_key(config | {"memory_options": ["theta=fixed", "heads=3"]})


def test_killed_and_started_again_it_goes_on(tmp_path: pathlib.Path) -> None:
    words = ["--tasks", TMAZE, "--memories", "mlp", "--steps", "16000", "--out", str(tmp_path), "--jobs", "1", *SMALL]
    command = [sys.executable, "-m", "hadamem", "sweep", *words, "--data", "None"]
    path = tmp_path / "hadamem.TMazePassive-v0-corridor_length=3" / "mlp-s0"
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    try:
        while len(read_metrics(path)) < 3:
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    with (path.parent / f"{path.name}.log").open() as log:
        fcntl.flock(log, fcntl.LOCK_EX)  # its run has seen that nobody waits for it, and has stopped
    assert not (path / "result.json").exists()
    reached = read_metrics(path)[-1]["step"]
    assert read_checkpoint(path)["agent"]["step"] == reached < 16000
    sweep([*words, "--data", "None"])
    steps = [line["step"] for line in read_metrics(path)]
    assert steps == [*range(320, 16001, 160)]  # the first 160 are random play, for the statistics
    assert json.loads((path / "result.json").read_text())["steps"] == 16000


def test_what_is_killed_is_told(tmp_path: pathlib.Path) -> None:
    [cell] = cells([TMAZE], ["mlp"], "--steps", "1000000", *SMALL, out=str(tmp_path))
    process = start(cell)
    process.kill()
    ended(cell, process)
    finish(cell, None)
    assert (cell.state, cell.problem) == ("failed", "killed by SIGKILL, as when memory runs out")


def test_an_error_is_told_and_not_the_note_after_it(tmp_path: pathlib.Path) -> None:
    [cell] = cells([TMAZE], ["mlp"], "--steps", "3200", "--learning-rate", "1e30", *SMALL, out=str(tmp_path))
    ended(cell, start(cell))
    finish(cell, None)
    assert cell.state == "failed"
    assert cell.problem.startswith("FloatingPointError: the loss is no longer finite after ")
    assert "--resume" in cell.log.read_text()


def test_waiting_for_a_run_does_not_stop_it(tmp_path: pathlib.Path) -> None:
    [cell] = cells([TMAZE], ["mlp"], "--steps", "320", *SMALL, out=str(tmp_path))
    ended(cell, start(cell))
    finish(cell, None)
    assert cell.state == "done"


def test_stopped_by_the_user_every_run_writes_a_checkpoint(tmp_path: pathlib.Path) -> None:
    [cell] = cells([TMAZE], ["mlp"], "--steps", "1000000", *SMALL, out=str(tmp_path))

    def look() -> None:
        if len(read_metrics(cell.path)) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_here([cell], 1, lambda cell: None, look)
    assert read_checkpoint(cell.path)["agent"]["step"] == read_metrics(cell.path)[-1]["step"] > 0

"""The search: what is stopped early, what fails, what is chosen, and what a kill leaves."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from hadamem.cli.tune import tune
from hadamem.recipes.arguments import read_train
from hadamem.run import read_checkpoint, read_metrics
from hadamem.tuning.space import Space

optuna = pytest.importorskip("optuna", reason="hadamem tune takes Optuna, which is not installed")

from hadamem.tuning.search import Candidate, Outcome, Search, open_study  # noqa: E402

TASK = "hadamem/TMazePassive-v0 corridor_length=2"
SMALL = ("--num-envs", "4", "--num-steps", "40", "--minibatches", "2", "--epochs", "1")
COMMAND = ["--env", TASK.split()[0], "--env-options", TASK.split()[1], "--memories", "mlp:8", "--jobs", "1", "--episodes", "4"]


def make_search(folder: pathlib.Path, seconds: float = 3600.0, steps: int = 1000, trials: int | None = None) -> Search:
    space = Space(TASK, ("mlp:8", "gru:4"), SMALL, steps, episodes=4, seed=0)
    return Search(open_study(folder), space, folder, seconds, 1, trials, fresh_seeds=2)


def write_returns(path: pathlib.Path, config: object, returns: list[float]) -> None:
    """What a training of 1,000 steps leaves that has made 100 of them for each return."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({"config": asdict(config), "versions": {}}))
    lines = [{"step": 100 * (i + 1), "return": value, "seconds": 1.0 + i} for i, value in enumerate(returns)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_defaults_come_first_and_as_they_are(tmp_path: pathlib.Path) -> None:
    search = make_search(tmp_path)
    cells = search._trial_cells(search.total_seconds)
    assert [next(cells).config for _ in range(2)] == [search.space.defaults[memory] for memory in search.space.memories]
    other = next(cells).config
    assert other.ppo not in [search.space.defaults[memory].ppo for memory in search.space.memories]


def test_what_is_under_the_median_is_stopped_but_no_default(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = make_search(tmp_path)
    monkeypatch.setattr("hadamem.tuning.search._LOOK_SECONDS", 0.0)
    cells = search._trial_cells(search.total_seconds)
    good = [next(cells) for _ in range(6)]
    for i, cell in enumerate(good):
        write_returns(cell.path, cell.config, [i / 10] * 9)
        search._look(search.total_seconds)
        assert not cell.stop_requested
        search.study.tell(search.running.pop(cell), i / 10)
    bad, fine, early = next(cells), next(cells), next(cells)
    write_returns(bad.path, bad.config, [-1.0] * 4)
    write_returns(fine.path, fine.config, [9.0] * 4)
    write_returns(early.path, early.config, [-1.0] * 2)
    search._look(search.total_seconds)
    assert [cell.stop_requested for cell in (bad, fine, early)] == [True, False, False]
    trial = search._tell(bad)
    assert (trial.state, trial.intermediate_values) == (optuna.trial.TrialState.PRUNED, dict.fromkeys(range(1, 5), -1.0))
    # the same returns of a default
    search.running[early].set_user_attr("default", "mlp:8")
    write_returns(early.path, early.config, [-1.0] * 6)
    search._look(search.total_seconds)
    assert not early.stop_requested


def test_what_cannot_be_trained_counts_as_stopped_unless_it_is_a_default(tmp_path: pathlib.Path) -> None:
    search = make_search(tmp_path)
    cells = search._trial_cells(search.total_seconds)
    default, _, other = (next(cells) for _ in range(3))
    for cell in (default, other):
        cell.log.parent.mkdir(parents=True, exist_ok=True)
        cell.log.write_text("Traceback\nFloatingPointError: the loss is no longer finite\n")
    trial = search._tell(other)
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert trial.user_attrs["problem"] == "FloatingPointError: the loss is no longer finite"
    with pytest.raises(ValueError, match=r"the training with the defaults failed: FloatingPointError: .*0000-s0.log"):
        search._tell(default)
    again = make_search(tmp_path)  # it is tried again
    assert sorted(trial.state.name for trial in again.study.trials) == ["FAIL", "PRUNED", "RUNNING", "WAITING"]


def test_a_training_with_the_defaults_that_fails_ends_the_search(tmp_path: pathlib.Path) -> None:
    command = [*COMMAND, "--env-options", "corridor_length=-3", "--steps", "320", "--out", str(tmp_path), *SMALL]
    with pytest.raises(ValueError, match=r"the training with the defaults failed: .*corridor_length is -3"):
        tune(command)


def test_without_time_nothing_is_trained(tmp_path: pathlib.Path) -> None:
    search = make_search(tmp_path, seconds=1e-6)
    search.run(lambda trial: None, lambda: None)
    assert not (tmp_path / "trials").exists()
    with pytest.raises(ValueError, match=r"no training with the defaults was finished in 1.*more --minutes goes on"):
        search.confirm(lambda cells: None)


def test_other_settings_are_another_study(tmp_path: pathlib.Path) -> None:
    make_search(tmp_path)
    make_search(tmp_path, seconds=5.0, trials=7)  # more or less time is not
    with pytest.raises(ValueError, match=r"holds a study with other settings \(steps 1000\); give --out a new folder"):
        make_search(tmp_path, steps=2000)


def test_candidates_are_the_best_default_and_the_best_of_the_others(tmp_path: pathlib.Path) -> None:
    search = make_search(tmp_path)
    cells = search._trial_cells(search.total_seconds)
    for score in (0.3, 0.1, 0.0, 0.9, 0.5, 0.7, 0.6, 0.8, 0.2):
        cell = next(cells)
        trial = search.running.pop(cell)
        trial.set_user_attr("seconds", 60.0)
        search.study.tell(trial, score)
    room_for_many = search._candidates()
    assert [candidate.score for candidate in room_for_many] == [0.3, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert [candidate.default for candidate in room_for_many] == [True] + [False] * 5
    search.confirmation_seconds = 3 * 2 * 60.0  # for two seeds of three
    assert [candidate.score for candidate in search._candidates()] == [0.3, 0.9, 0.8]
    search.confirmation_seconds = 1.0
    assert [candidate.score for candidate in search._candidates()] == [0.3, 0.9]


def test_fresh_seeds_decide_where_there_are_any(tmp_path: pathlib.Path) -> None:
    config = make_search(tmp_path).space.defaults["mlp:8"]
    lucky = Candidate(4, config, False, score=9.0, fresh=(1.0, 2.0))
    steady = Candidate(0, config, True, score=3.0, fresh=(3.0, 2.0))
    assert (lucky.value, steady.value) == (1.5, 2.5)
    assert replace(lucky, fresh=()).value == 9
    assert Outcome([steady, lucky]).best.default
    assert Outcome([lucky]).default is None


def test_stopped_by_the_user_trials_stay_open_with_a_checkpoint(tmp_path: pathlib.Path) -> None:
    search = make_search(tmp_path, steps=1_000_000)
    path = tmp_path / "trials" / "0000-s0"

    def look() -> None:
        if len(read_metrics(path)) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.run(lambda trial: None, look)
    assert read_checkpoint(path)["agent"]["step"] == read_metrics(path)[-1]["step"] > 0
    assert [trial.state.name for trial in search.study.trials] == ["RUNNING", "WAITING"]


def test_killed_and_started_again_it_goes_on_and_ends_in_a_recipe(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [*COMMAND, "--steps", "3200", "--trials", "3", "--fresh-seeds", "1", "--out", str(out), *SMALL]
    first, second = (out / "trials" / name for name in ("0000-s0", "0001-s0"))
    process = subprocess.Popen(
        [sys.executable, "-m", "hadamem", "tune", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    try:
        while not read_metrics(second):
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    with (second.parent / f"{second.name}.log").open() as log:
        fcntl.flock(log, fcntl.LOCK_EX)  # its training has seen that nobody waits for it, and has stopped
    states = "select number, state from trials order by number"
    assert sqlite3.connect(out / "study.db").execute(states).fetchall() == [(0, "COMPLETE"), (1, "RUNNING")]
    finished = (first / "result.json").stat().st_mtime_ns
    reached = read_metrics(second)[-1]["step"]
    assert 0 < reached < 3200

    tune(words)
    assert sqlite3.connect(out / "study.db").execute(states).fetchall()[:2] == [(0, "COMPLETE"), (1, "COMPLETE")]
    assert (first / "result.json").stat().st_mtime_ns == finished
    assert len(list(second.glob("events.*"))) == 2  # it went on, in a second process
    said = capfd.readouterr().out
    recipe = out / "recipe.toml"
    assert said.splitlines()[-1] == str(recipe)
    assert "trial 0," not in said.replace("(trial 0)", "")
    config = read_train(["--recipe", str(recipe)]).config
    assert (config.env, config.env_options, config.memory, config.steps) == (*TASK.split()[:1], (TASK.split()[1],), "mlp", 3200)

    study = open_study(out)
    trials = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    assert len(study.trials) == 3
    fresh = {trial.number: read_metrics(out / "trials" / f"{trial.number:04}-s1") for trial in trials}
    scores = {number: lines[-1]["evaluation_return"] for number, lines in fresh.items() if lines}
    assert {0} < set(scores)
    best = max(scores.values())
    assert best >= scores[0]
    chosen = [json.loads(study.trials[number].user_attrs["config"])["ppo"] for number in scores if scores[number] == best]
    assert json.loads(json.dumps(asdict(config)["ppo"])) in chosen
    assert f"score:    {best:.4g}" in recipe.read_text()
    tune(words)  # once more: there is nothing left to train
    assert len(open_study(out).trials) == 3


def test_one_at_a_time(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "study.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another `hadamem tune` is at work in"):
            tune([*COMMAND, "--steps", "320", "--out", str(tmp_path), *SMALL])


@pytest.mark.parametrize("words", [["--minutes", "0"], ["--steps", "0"], ["--trials", "0"], ["--fresh-seeds", "-1"]])
def test_numbers_out_of_range_are_answered(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tune([*COMMAND, *words])
    assert f"{words[0][2:].replace('-', '_')} is {words[1]}" in capsys.readouterr().err.replace("\n", " ")

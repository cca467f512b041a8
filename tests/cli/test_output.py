"""Output that is closed, missing or narrow."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from hadamem import PPO
from hadamem.cli import main
from hadamem.cli.console import make_table, print_rows, print_table

SMALL: dict[str, Any] = {"num_envs": 2, "num_steps": 16, "minibatches": 1, "threads": 1, "env_workers": 0}


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # commands extend it


@contextlib.contextmanager
def closed() -> Iterator[None]:
    """No standard streams, as in a daemon. In the test itself, since pytest sets the streams again after a fixture."""
    with mock.patch.multiple(sys, stdin=None, stdout=None, stderr=None):
        yield


def test_a_training_runs_without_standard_streams(tmp_path: pathlib.Path) -> None:
    options = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    out = tmp_path / "run"
    with closed():
        main.run_command(["train", "--env", "CartPole-v1", "--memory", "mlp", "--steps", "400", *options, "--out", str(out)])
    assert (out / "result.json").exists()


@pytest.mark.parametrize("arguments", [["list", "memories"], ["list", "tasks", "hadamem/Wind-v0"]])
def test_tables_are_dropped_without_standard_streams(arguments: list[str]) -> None:
    with closed():
        main.run_command(arguments)
        print("dropped", flush=True)


def test_help_is_dropped_without_standard_streams() -> None:
    with closed(), pytest.raises(SystemExit) as end:
        main.run_command(["evaluate", "--help"])
    assert end.value.code == 0


def test_an_agent_learns_without_standard_streams() -> None:
    agent = PPO("mlp", "CartPole-v1", **SMALL)
    with closed():
        agent.learn(400)


@pytest.mark.skipif(os.name != "posix", reason="the shell is of POSIX")
def test_a_process_with_closed_streams_ends_with_status_0() -> None:
    command = ["sh", "-c", 'exec "$0" -m hadamem list memories <&- >&- 2>&-', sys.executable]
    assert subprocess.run(command, timeout=200).returncode == 0


@pytest.mark.parametrize("columns", [80, 60, 40, 20])
def test_a_narrow_table_keeps_its_names_and_numbers(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    table = make_table("CartPole-v1, greedy", ["policy", "mean return", "95 % interval", "std", "episodes"])
    for name in ("gru", "random"):
        table.add_row(name, "164.500", "163.520 to 165.480", "0.707", "2")
    print_table(table)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    for word in ("gru", "random", "164.500", "163.520", "165.480", "0.707"):
        assert word in text
    assert ("┃" in text) == (columns >= 60)  # otherwise as lists


@pytest.mark.parametrize("columns", [100, 60, 40])
def test_a_narrow_list_keeps_its_names_and_folds_long_words(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    name, path = "popgym-VelocityOnlyCartpoleMedium-v0", "/tmp/" + 60 * "x"
    print_rows("tasks", [{"name": name, "steps": 1_600, "path": path, "unset": None}])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    assert name in text
    assert "1,600" in text
    assert text.count("x") == 60  # no part of the path is cut off


def test_columns_without_a_value_are_left_out_of_an_evaluation(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    agent = PPO("mlp", "CartPole-v1", **SMALL)
    agent.learn(400, out=tmp_path / "run")
    capsys.readouterr()
    main.run_command(["evaluate", str(tmp_path / "run"), "--episodes", "2"])
    text = capsys.readouterr().out
    assert "episodes ┃\n" in text
    assert "success" not in text
    assert "inner episodes" not in text


@pytest.mark.parametrize("columns", ["0", ""])
def test_a_width_of_0_is_as_none(columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    table = make_table("title", ["name", "about"])
    table.add_row("gru", 100 * "x")
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(table)
    without = capsys.readouterr().out
    assert 100 * "x" in without
    monkeypatch.setenv("COLUMNS", columns)
    print_table(table)
    assert capsys.readouterr().out == without


def test_a_width_of_0_does_not_hide_what_is_shown_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    command = [sys.executable, "-c", "from hadamem.cli.console import console; print(console.width)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert int(done.stdout) > 0

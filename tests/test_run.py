"""Run folders: one owner, files that are whole or not there, and damage that is said in a line."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import subprocess
import sys
from dataclasses import asdict, dataclass, replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hadamem.disk import DiskFullError, on_disk, write_whole
from hadamem.run import NoRunError, Run, RunError, read_checkpoint, read_metrics, read_saved

CHECKPOINT = {"agent": {"step": 3, "policy": {"w": torch.ones(2)}}, "random": [torch.get_rng_state()], "seconds": 1.0}


@dataclass
class Config:
    steps: int = 10


def make_run(path: pathlib.Path, steps: int = 3) -> pathlib.Path:
    with Run.create(path, Config()) as run:
        for step in range(1, steps + 1):
            run.log(step, {"return": float(step)})
        run.save(CHECKPOINT)
    return path


def test_a_second_owner_is_refused_and_the_lock_ends_with_its_process(tmp_path: pathlib.Path) -> None:
    path = make_run(tmp_path / "run")
    script = (
        f"import pathlib, sys; from hadamem.run import Run; run = Run.open(pathlib.Path({str(path)!r})); print(1, flush=True)"
    )
    child = subprocess.Popen([sys.executable, "-c", f"{script}; sys.stdin.read()"], stdin=-1, stdout=-1)
    assert child.stdout is not None
    assert child.stdout.readline() == b"1\n"
    with pytest.raises(RunError, match=f"in use by process {child.pid} on "):
        Run.open(path)
    child.kill()
    child.communicate()
    with Run.open(path), pytest.raises(RunError, match=f"in use by process {os.getpid()} on "):
        Run.open(path)
    Run.open(path).close()


def test_opening_changes_nothing(tmp_path: pathlib.Path) -> None:
    path = make_run(tmp_path / "run")
    before = {file.name: file.read_bytes() for file in path.iterdir() if file.name != ".lock"}
    Run.open(path).close()
    assert {file.name: file.read_bytes() for file in path.iterdir() if file.name != ".lock"} == before


def test_a_folder_that_was_killed_before_its_first_checkpoint_is_taken_over(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run"
    Run.create(path, Config()).close()
    (path / ".metrics.jsonl.123").write_text("{")
    (path / "replay.bin").write_text("of another size")
    with Run.create(path, Config(steps=20)):
        pass
    assert read_saved(path).config == {"steps": 20}
    assert not {".metrics.jsonl.123", "replay.bin"} & {file.name for file in path.iterdir()}


@pytest.mark.parametrize("name", ["thesis.tex", "checkpoint.pt", "result.json"])
def test_a_folder_that_holds_anything_else_is_left_as_it_is(name: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match="is not empty"):
        Run.create(tmp_path, Config())
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_config_of_something_else_is_left_as_it_is(tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="is not empty"):
        Run.create(tmp_path, Config())
    with pytest.raises(NoRunError, match="something else"):
        Run.open(tmp_path)


def test_metrics_and_points_after_the_step_to_go_on_from_are_void(tmp_path: pathlib.Path) -> None:
    for first in (0, 2):
        path = make_run(tmp_path / str(first))
        with Run.open(path) as run:
            run.start(Config(), first)
            for step in range(first + 1, 5):
                run.log(step, {"return": 0.0})
        assert [line["step"] for line in read_metrics(path)] == [1, 2, 3, 4]
        board = EventAccumulator(str(path), size_guidance={"scalars": 0})
        board.Reload()
        assert [point.step for point in board.Scalars("return")] == [1, 2, 3, 4]


def test_nothing_is_deleted_before_its_replacement_is_whole(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_run(tmp_path / "run")
    write_whole(path / "result.json", "{}")
    before = {name: (path / name).read_bytes() for name in ("config.json", "metrics.jsonl", "checkpoint.pt", "result.json")}

    def full(self: pathlib.Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(DiskFullError, match=r"the disk is full: .*config\.json"), Run.open(path) as run:
        run.start(Config(steps=20), 1)
    monkeypatch.undo()
    assert {name: (path / name).read_bytes() for name in before} == before
    with Run.open(path) as run:
        run.start(Config(steps=20), 3)
        (path / "result.json").touch()
        monkeypatch.setattr(pathlib.Path, "write_bytes", full)
        with pytest.raises(DiskFullError, match=r"the disk is full: .*checkpoint\.pt"):
            run.save(CHECKPOINT)
        monkeypatch.undo()
    assert (path / "checkpoint.pt").read_bytes() == before["checkpoint.pt"]
    assert not [file.name for file in path.iterdir() if file.name.startswith(".") and file.name != ".lock"]


def test_other_errors_of_a_disk_stay_what_they_are() -> None:
    with pytest.raises(PermissionError), on_disk(pathlib.Path("x")):
        raise PermissionError(errno.EACCES, "no")


def test_an_error_says_what_is_kept_and_how_to_go_on(tmp_path: pathlib.Path) -> None:
    run = Run.create(tmp_path / "a run", Config())
    run.save(CHECKPOINT)
    with pytest.raises(ZeroDivisionError) as caught, run:
        _ = 1 / 0
    [note] = caught.value.__notes__
    assert "step 3" in note
    assert f"--resume '{tmp_path}/a run'" in note


def test_a_failing_board_is_said_once_and_ends(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    with Run.create(tmp_path / "run", Config()) as run:
        run.log(1, {"return": 1.0})
        run._trackers._all[0]._file.close()
        run.log(2, {"return": 2.0})
        run.log(3, {"return": 3.0})
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [1, 2, 3]
    assert [record.getMessage().rpartition(":")[0] for record in caplog.records] == [
        "TensorBoard: no longer written, the training goes on"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('1\n{"step": 2}\n', "line 1 must be an object"),
        ('{"return": 1.0}\n', "line 1 must be an object"),
        ('{"step": 1.5}\n', "line 1 must be an object"),
        ('{"step": 1}\n{"step": 2, "x": "y"}\n', "line 2: x must be a number"),
        ('{"step": 1}\n{"ste\n{"step": 3}\n', "line 2 is no JSON"),
    ],
)
def test_damaged_metrics(text: str, problem: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(RunError, match=f"metrics.jsonl: {problem}"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"config": [], "versions": {}}'])
def test_damaged_configurations(content: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises((RunError, NoRunError), match=r"config\.json"):
        read_saved(tmp_path)


@pytest.mark.parametrize(
    ("saved", "problem"),
    [
        ({"model": torch.zeros(2)}, "no agent and no random and no seconds"),
        ({name: part for name, part in CHECKPOINT.items() if name != "random"}, "no random"),
        (CHECKPOINT | {"agent": {"step": 3}}, "no policy"),
        ([1], "no agent"),
    ],
)
def test_checkpoints_of_something_else(saved: object, problem: str, tmp_path: pathlib.Path) -> None:
    torch.save(saved, tmp_path / "checkpoint.pt")
    with pytest.raises(RunError, match=problem) as caught:
        read_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_config_is_written_as_it_is(tmp_path: pathlib.Path) -> None:
    config = replace(Config(), steps=7)
    Run.create(tmp_path / "run", config).close()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"] == asdict(config)

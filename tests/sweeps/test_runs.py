"""Run folders: what is left of a kill, and the list of them."""

from __future__ import annotations

import json
import pathlib
import shutil
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from hadamem.agents.config import TrainConfig
from hadamem.agents.ppo import PPOConfig
from hadamem.cli.console import print_rows, say
from hadamem.cli.sweep import runs
from hadamem.report import results
from hadamem.report.curves import draw_curves
from hadamem.report.results import peek_result, read_result
from hadamem.run import NoRunError, Run, RunError, read_last_metrics
from hadamem.sweeps.runs import train_once
from hadamem.text import count

CONFIG = TrainConfig(
    env="hadamem/TMazePassive-v0",
    env_options=("corridor_length=3",),
    memory="mlp",
    steps=320,
    threads=1,
    ppo=PPOConfig(num_envs=4, num_steps=40, minibatches=2, epochs=1),
)


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path: pathlib.Path) -> None:
    with Run.create(tmp_path / "run", CONFIG):
        pass
    (tmp_path / "run" / ".config.json.1").write_text("{")
    result = train_once(CONFIG, tmp_path / "run")
    assert result is not None
    assert result.steps == 320
    (tmp_path / "run" / "checkpoint.pt").unlink()  # complete, and to be left alone
    assert train_once(CONFIG, tmp_path / "run") == result


def test_a_folder_of_something_else_is_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="not empty"):
        train_once(CONFIG, tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_last_metrics(tmp_path: pathlib.Path) -> None:
    assert read_last_metrics(tmp_path) is None
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps({"step": i, "x" * 100: 0.5}) + "\n" for i in range(200)))
    assert read_last_metrics(tmp_path)["step"] == 199
    file.write_text(file.read_text() + '{"step": 200')
    assert read_last_metrics(tmp_path)["step"] == 199


def test_the_list_is_filtered_and_reads_no_whole_metrics(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train_once(CONFIG, tmp_path / "0")
    whole, peeked = read_result(tmp_path / "0"), peek_result(tmp_path / "0")
    assert (whole.steps, whole.key, whole.complete) == (peeked.steps, peeked.key, peeked.complete) == (320, whole.key, True)
    for i in range(1, 4):
        shutil.copytree(tmp_path / "0", tmp_path / str(i), ignore=lambda *_: ["result.json", "checkpoint.pt"])
    monkeypatch.setattr(results, "read_metrics", None)  # thousands of lines each
    runs([str(tmp_path), "--task", "*TMaze*", "--memory", "mlp", "--state", "stopped"])
    assert "3 runs" in capsys.readouterr().out
    runs([str(tmp_path), "--state", "complete"])
    assert "1 run " in capsys.readouterr().out
    runs([str(tmp_path), "--memory", "ml"])
    told = capsys.readouterr()
    assert "0 runs" in told.out
    assert "the memories mlp" in told.err
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')  # no run, and no reason to stop
    for task in ("hadamem/TMazePassive", "hadamem/TMazePassive-v0", "hadamem/TMazePassive-v0 corridor_length=3"):
        runs([str(tmp_path), "--task", task])
        assert ("4 runs" if "v0" in task else "0 runs") in capsys.readouterr().out
    with pytest.raises(NoRunError, match="something else"):
        runs([str(tmp_path / "bert")])


def test_a_damaged_run_is_left_out_and_said(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    train_once(CONFIG, tmp_path / "good")
    for name, file, text in (
        ("config", "config.json", '{"config": {"env": 3}, "versions": {}}'),
        ("cut", "config.json", "{"),
        ("numbers", "metrics.jsonl", "1\n2\n"),
    ):
        shutil.copytree(tmp_path / "good", tmp_path / name)
        (tmp_path / name / file).write_text(text)
    (tmp_path / "lost.run.json").write_text("{}")
    for paths in ([tmp_path], sorted(tmp_path.iterdir())):
        caplog.clear()
        runs([str(path) for path in paths])
        assert "1 run " in capsys.readouterr().out
        for name in ("config/config.json", "cut/config.json", "numbers/metrics.jsonl", "lost.run.json"):
            assert f"left out: {tmp_path / name}: " in caplog.text
    with pytest.raises(RunError, match="of another version"):
        runs([str(tmp_path / "cut")])


def test_what_is_printed_is_as_it_is(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    say("a :b: [/c]")
    print_rows("a :b: [/c]", [{"path": "d :b: [/e]"}])
    said = capsys.readouterr()
    assert said.err == "a :b: [/c]\n"
    assert "a :b: [/c]" in said.out
    assert "d :b: [/e]" in said.out
    assert [count(n, "run") for n in (0, 1, 1000)] == ["0 runs", "1 run", "1,000 runs"]


def test_plot_draws_a_panel_for_each_task(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    names = {"a": {}, "b": {"seed": 1}, "c": {"env_options": ("corridor_length=4",)}}
    for name, changes in names.items():
        train_once(replace(CONFIG, **changes), tmp_path / name)
    draw_curves([tmp_path / name for name in names], tmp_path / "curves.png", "entropy")
    panels = {axes.get_title(): [text.get_text() for text in axes.get_legend().get_texts()] for axes in drawn[0].axes}
    task = "hadamem/TMazePassive corridor_length="
    assert panels == {f"{task}3": ["mlp, seed 0", "mlp, seed 1"], f"{task}4": ["mlp"]}

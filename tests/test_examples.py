"""The programs in examples/ run; onnx_play.py is tried where policies are exported."""

from __future__ import annotations

import pathlib
import runpy
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def run(monkeypatch: pytest.MonkeyPatch, name: str, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *words])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.parametrize("memory", ["shm", "gru"])
def test_ppo_in_one_file(memory: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "ppo_shm.py", "--memory", memory, "--num-envs", "4", "--num-steps", "32", "--steps", "512")
    assert "512 steps, return " in capsys.readouterr().out
    assert len((EXAMPLES / "ppo_shm.py").read_text().splitlines()) < 250


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
def test_the_expert_is_perfect(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    words = ("--env", "popgym-RepeatPreviousEasy-v0", "--id", "expert/easy-v0", "--episodes", "2")
    run(monkeypatch, "repeat_previous_expert.py", *words)
    assert "2 episodes with a mean return of 1.000" in capsys.readouterr().out

"""The programs in examples/ run; onnx_play.py is tried where policies are exported."""

from __future__ import annotations

import functools
import http.server
import pathlib
import runpy
import sys
import threading
from typing import Any

import pytest

import hadamem
from hadamem.deploy import read_trained
from hadamem.deploy.export import export_onnx, record

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def run(monkeypatch: pytest.MonkeyPatch, name: str, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *words])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.parametrize("memory", ["shm", "gru"])
def test_ppo_in_one_file(memory: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "ppo_shm.py", "--memory", memory, "--num-envs", "4", "--num-steps", "32", "--steps", "512")
    assert "512 steps, return " in capsys.readouterr().out
    assert len((EXAMPLES / "ppo_shm.py").read_text().splitlines()) < 250


@pytest.mark.skipif(not (EXAMPLES / "browser" / "node_modules").exists(), reason="npm install was not run in examples/browser")
def test_the_browser_plays_an_exported_policy(browser: Any, tmp_path: pathlib.Path) -> None:
    """An untrained policy walks nowhere, but the page plays it as PyTorch does: at once, greedily, episode after episode."""
    folder = tmp_path / "browser"
    folder.mkdir()
    for name in ("index.html", "play.js", "node_modules"):
        (folder / name).symlink_to(EXAMPLES / "browser" / name)
    agent = hadamem.PPO("shm", "hadamem/TMazePassive-v0", env_options=("corridor_length=3",))
    agent.learn(256)
    agent.save(tmp_path / "run")
    export_onnx(record(read_trained(tmp_path / "run")), folder / "policy.onnx", 20)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page, wrong = browser.new_page(), list[str]()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/index.html?corridor=3&pause=0")
        page.wait_for_function("Number(document.getElementById('score').dataset.episodes) >= 5", timeout=20_000)
        assert "episodes turned where the sign said" in page.inner_text("#score")
        assert page.inner_text("#caption").startswith("state.memory, 192 x 32")
        page.close()
        server.shutdown()
    assert not wrong


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
def test_the_expert_is_perfect(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    words = ("--env", "popgym-RepeatPreviousEasy-v0", "--id", "expert/easy-v0", "--episodes", "2")
    run(monkeypatch, "repeat_previous_expert.py", *words)
    assert "2 episodes with a mean return of 1.000" in capsys.readouterr().out

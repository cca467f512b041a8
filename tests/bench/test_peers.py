"""benchmarks/peers.py: the table of its runs, and that it goes on where it was stopped. The runs themselves are not made."""

from __future__ import annotations

import importlib.util
import pathlib
import sys
from types import ModuleType
from typing import Any

import gymnasium
import pytest

FILE = pathlib.Path(__file__).parents[2] / "benchmarks" / "peers.py"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("peers", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "peers", module)
    spec.loader.exec_module(module)
    return module


def test_its_tasks_exist(peers: ModuleType) -> None:
    assert set(peers.SETTINGS) <= set(gymnasium.registry)


def test_stopped_it_goes_on(
    peers: ModuleType, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[tuple[Any, ...]] = []

    def train(task: str, contender: str, seed: int, steps: int) -> dict[str, Any]:
        if steps == 1:  # compiles only
            return {}
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append((contender, seed))
        return {"return": 10.0 + seed, "steps_made": steps, "seconds": 4.0 if contender == peers.PEER else 1.0 + seed}

    monkeypatch.setattr(peers, "in_fresh_process", train)
    data = tmp_path / "peers.json"
    words = ["--tasks", "hadamem/PendulumNoVel-v0", "--seeds", "2", "--steps", "600", "--data", str(data)]
    monkeypatch.setattr(sys, "argv", ["peers", *words, "--contenders", peers.PEER, "gru:8"])
    with pytest.raises(KeyboardInterrupt):
        peers.main()
    assert made == [(peers.PEER, 0), ("gru:8", 0), (peers.PEER, 1)]
    made.clear()
    peers.main()
    assert made == [("gru:8", 1)]
    table = capsys.readouterr().out.splitlines()
    assert table[2:] == [
        f"| hadamem/PendulumNoVel-v0 | 600 | {peers.PEER} | 2 | 10.5 ± 0.7 | 4.0 | 150 | 1.00 |",
        "| hadamem/PendulumNoVel-v0 | 600 | gru:8 | 2 | 10.5 ± 0.7 | 1.5 | 400 | 0.38 |",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("CartPole-v1",)}, "tasks has CartPole-v1; it must be some of hadamem/CartPoleNoVel-v0"),
        ({"contenders": ("gruu",)}, "gru"),
        ({"seeds": 0}, "seeds is 0; it must be at least 1"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
    ],
)
def test_bad_options_are_answered(peers: ModuleType, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        peers.Peers(**options)

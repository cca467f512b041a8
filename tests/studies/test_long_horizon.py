"""The study of long horizons: its cells, and what it says of memories that do not get there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hadamem.agents.ppo import PPO
from hadamem.studies import long_horizon
from hadamem.studies.cells import Stopped

PLAYED = long_horizon.Played(False, return_=1.0, success=1.0, steps=10, seconds=1.0, process_mb=5.0)
RECALLED = long_horizon.Recalled(False, accuracy=1.0, updates=9, seconds=1.0, row_mb=7.0, row_seconds=1.0, process_mb=5.0)


@pytest.mark.parametrize("memory", long_horizon.MEMORIES)
@pytest.mark.parametrize("L", [100, 20_000])
def test_rows_are_whole_episodes(memory: str, L: int) -> None:
    config = long_horizon.configure(memory, L)
    assert config.ppo is not None
    assert config.ppo.num_steps == L + 1
    assert config.ppo.num_envs == (256 if L == 100 else 8)
    assert (config.memory_size == 32) == memory.startswith("shm")
    assert ("theta=centred" in config.memory_options) == (memory == "shm centred")


def test_recall_of_a_short_delay_is_learned() -> None:
    assert long_horizon.recall("gru", 3, 30.0, 0).accuracy >= long_horizon.LEARNED


def test_a_loss_that_is_not_finite_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def iterate(self: PPO) -> dict[str, float]:
        raise FloatingPointError

    monkeypatch.setattr(PPO, "iterate", iterate)
    played = long_horizon.play("shm", 4, 1.0, 0)
    assert played.diverged
    row = long_horizon._row("shm", 4, Stopped("memory"), played, None)
    assert (row.PPO, row.recall, row.return_) == ("diverged", "out of memory", None)


@pytest.mark.parametrize(
    ("played", "outcome"),
    [
        (PLAYED, "learned"),
        (replace(PLAYED, return_=0.5), "not learned"),
        (replace(PLAYED, return_=None), "not learned"),
        (replace(PLAYED, diverged=True), "diverged"),
        (Stopped("memory"), "out of memory"),
    ],
)
def test_a_policy_that_diverged_or_was_stopped_did_not_learn(played: long_horizon.Played | Stopped, outcome: str) -> None:
    assert outcome == long_horizon._row("shm", 100, RECALLED, played, 1.0).PPO


def test_the_conclusion_is_what_the_rows_say() -> None:
    size = replace(long_horizon.SIZES["tiny"], corridors=(10, 20))
    stopped = Stopped("memory")
    rows = [
        long_horizon._row(
            memory,
            L,
            replace(RECALLED, accuracy=1.0 if L == 10 else 0.1, row_mb=9000.0) if memory != "gpt" else stopped,
            replace(PLAYED, return_=0.97 if memory == "shm" else -1.0) if memory != "gpt" else stopped,
            float(L),
        )
        for L in size.corridors
        for memory in long_horizon.MEMORIES
    ]
    said = [long_horizon._on_play(rows, 1), long_horizon._on_recall(rows, 1), long_horizon._on_memory(rows)]
    assert "shm 20, shm centred none, gru none" in said[0]
    assert "0.97 at 20 (shm)" in said[0]
    assert "shm 10, shm centred 10, gru 10, ffm 10, mamba 10, gpt none" in said[1]
    assert "SHM's state is 10 after 10, 20 after 20 steps, and with centred theta 10 after 10" in said[1]
    assert "9,000 MB, which does not fit" in said[2]
    assert "gpt out of memory" in said[2]

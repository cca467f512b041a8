"""The study of long horizons: its cells, and what it says of memories that do not get there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hadamem.agents.ppo import PPO
from hadamem.studies import long_horizon


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
    assert long_horizon.recall("gru", 3, 30.0, 0)["accuracy"] >= long_horizon.LEARNED


def test_a_loss_that_is_not_finite_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def iterate(self: PPO) -> dict[str, float]:
        raise FloatingPointError

    monkeypatch.setattr(PPO, "iterate", iterate)
    played = long_horizon.play("shm", 4, 1.0, 0)
    assert played["diverged"]
    row = long_horizon._row("shm", 4, {"stopped": "memory"}, played, {"stopped": "memory"})
    assert (row["PPO"], row["recall"], row["return"]) == ("diverged", "out of memory", None)


def test_the_conclusion_is_what_the_rows_say() -> None:
    size = replace(long_horizon.SIZES["tiny"], corridors=(10, 20))
    stopped = {"stopped": "memory"}
    rows = [
        long_horizon._row(
            memory,
            L,
            {"diverged": False, "accuracy": 1.0 if L == 10 else 0.1, "row_mb": 9000.0} if memory != "gpt" else stopped,
            {"diverged": False, "return": 0.97 if memory == "shm" else -1.0} if memory != "gpt" else stopped,
            {"largest": float(L)},
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

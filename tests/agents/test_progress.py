"""What is shown while a training runs."""

from __future__ import annotations

import math
import pathlib
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from hadamem.agents import progress
from hadamem.agents.config import TrainConfig
from hadamem.agents.making import make_agent, make_environment
from hadamem.agents.ppo import PPOConfig
from hadamem.agents.sac import SACConfig
from hadamem.agents.training import train
from hadamem.cli import progress as bars


class Clock:
    """Stands for the module `time`: seconds pass when they are added."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_lines_come_every_ten_seconds_and_at_the_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress("task", 1000) as bar:
        for step in range(1, 106):
            clock.seconds += 1
            bar.update(step)
    lines = capsys.readouterr().out.splitlines()
    assert [int(re.findall(r"(\d+) of 1,000", line)[0]) for line in lines] == [*range(10, 101, 10), 105]
    assert all("1 steps/s" in line for line in lines)
    assert "0:14:55 left" in lines[-1]  # 895 steps


def test_a_return_that_is_not_known_is_no_number(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress("task", 100) as bar:
        for step, mean_return in ((0, None), (20, math.nan), (40, 0.25), (60, None)):
            clock.seconds += 100
            bar.update(step, mean_return)
    text = capsys.readouterr().out
    assert "nan" not in text
    assert re.findall(r"return: (none yet|\S+)", text) == [
        "none yet",
        "none yet",
        "0.250",
        "0.250",
    ]  # and nothing new at the end


def test_a_bar_is_drawn_on_a_terminal(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bars, "Console", lambda stderr: Console(stderr=stderr, force_terminal=True, width=150))
    with bars.ProgressBar("task", 200, done=50) as bar:
        for step in range(50, 100):
            clock.seconds += 0.01
            bar.update(step)
        assert bar._bar.tasks[0].completed >= 80  # drawn ten times a second
        assert "none yet" in bar._bar.tasks[0].fields["status"]
        bar.update(100, 0.5)
    text = capsys.readouterr()
    assert text.out == ""
    assert "return: 0.500" in text.err
    assert "nan" not in text.err


def test_nobody_reading_does_not_end_what_runs(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    with progress.Progress("task", 100) as bar:
        clock.seconds += 20
        bar.update(10)
    assert bar.done == 10


def ppo_config() -> TrainConfig:
    ppo = PPOConfig(num_envs=2, num_steps=6, epochs=1, minibatches=1)
    return TrainConfig(env="CartPole-v1", memory="mlp", steps=24, threads=1, ppo=ppo)


def sac_config() -> TrainConfig:
    sac = SACConfig(num_envs=2, num_steps=6, warmup_steps=1000)
    return TrainConfig(env="CartPole-v1", memory="mlp", agent="sac", steps=24, threads=1, sac=sac)


@pytest.mark.parametrize("make_config", [ppo_config, sac_config])
def test_every_step_of_an_iteration_is_reported(make_config: Callable[[], TrainConfig]) -> None:
    config = make_config()
    env = make_environment(config, 2, 0)
    agent = make_agent(config, env)
    reported: list[int] = []
    for _ in range(2):
        agent.iterate(reported.append)
    assert reported == [*range(2, agent.step + 1, 2)]
    assert agent.step >= 24
    env.close()


def test_training_shows_steps_within_a_rollout(
    clock: Clock, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress.Progress, "interval", 0.0)
    train(ppo_config(), tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    shown = [int(re.findall(r"(\d+) of 24", line)[0]) for line in lines]
    assert set(shown) == set(range(2, 25, 2))  # a rollout has 12
    assert "nan" not in "".join(lines)

"""The command line of `hadamem train`: its help."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from hadamem.agents.config import ALGORITHMS
from hadamem.recipes.arguments import read_train
from hadamem.recipes.presets import preset_config
from hadamem.recipes.train_help import list_options

FIRST = {
    *("env", "env-options", "inputs", "agent", "preset", "memory", "memory-size", "memory-options", "steps", "seed", "device"),
    *("threads", "out", "resume", "learning-rate", "gamma", "num-envs", "num-steps"),
}
FIRST_OF = {
    "ppo": FIRST | {"epochs", "entropy-coefficient"},
    "sac": FIRST | {"updates-per-step", "temperature"},
    "r2d2": FIRST | {"updates-per-step", "epsilon"},
}


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("COLUMNS", "100")  # too narrow for boxes side by side

    def show(*arguments: str) -> str:
        with pytest.raises(SystemExit) as end:
            read_train(arguments)
        assert end.value.code == 0
        return capsys.readouterr().out

    return show


def listed(text: str) -> set[str]:
    """The options that a help explains, without those about the help."""
    return set(re.findall(r"^[│ ] --([\w-]+)", text, re.MULTILINE)) - {"help-all"}


def leaves(config: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from leaves(value)
        else:
            yield field.name, value


@pytest.mark.parametrize("agent", ALGORITHMS)
def test_help_shows_the_twenty_options_that_matter_first(agent: str, help_of: Callable[..., str]) -> None:
    assert len(FIRST_OF[agent]) == 20
    text = help_of("--agent", agent, "--help")
    assert listed(text) == FIRST_OF[agent]
    assert "--help-all" in text
    assert help_of("-h", "--agent", agent) == text


@pytest.mark.parametrize("agent", ALGORITHMS)
def test_help_all_shows_every_option_and_each_of_them_parses(agent: str, help_of: Callable[..., str]) -> None:
    names = listed(help_of("--agent", agent, "--help-all"))
    config = read_train(["--agent", agent]).config
    values = dict(leaves(config))
    for other in ALGORITHMS.keys() - {agent}:
        del values[other]  # None: not chosen
    assert names == {name.replace("_", "-") for name in values} | {"preset", "recipe", "out", "resume", "ray"}
    words = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif value != ():
            words += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
    assert read_train(words).config == config


def test_defaults_are_those_of_what_is_asked_for(help_of: Callable[..., str]) -> None:
    def default(name: str, *arguments: str) -> str:
        text = " ".join(help_of(*arguments).replace("│", "").split())
        (value,) = re.findall(rf" --{name} \S+ .*?\(default: (.*?)\)", text)
        return value

    assert default("env", "--env=CartPole-v1", "--help") == "CartPole-v1"
    for task in ("popgym-RepeatPreviousEasy-v0", "popgym-BattleshipEasy-v0", "hadamem/TMazePassive-v0"):
        for preset in ("fast", "popgym-paper", "credit-fast"):
            words = ["--preset", preset, "--env", task, "--help"]
            config = preset_config(preset, task, "shm")
            assert default("num-envs", *words) == str(config.ppo.num_envs)
            assert default("gamma", *words) == str(config.ppo.gamma)
            assert default("memory-options", *words) == " ".join(config.memory_options)
            assert default("preset", *words) == preset
    assert default("memory-size", "--memory", "gru", "--help") == str(preset_config("fast", "", "gru").memory_size)
    assert default("tau", "--agent", "sac", "--help-all") == str(preset_config("sac-fast", "", "shm").sac.tau)


def test_every_option_has_a_help_text_on_one_line() -> None:
    for preset in ("fast", "sac-fast", "r2d2-fast"):
        config = preset_config(preset, "", "shm")
        options = {option.name: option for option in list_options(config)}
        assert set(options) == {name for name, _ in leaves(config)} - ALGORITHMS.keys()
        assert options["gamma"].owner is type(config.algorithm)
        assert all(option.help and "\n" not in option.help for option in options.values())

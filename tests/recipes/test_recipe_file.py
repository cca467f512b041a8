"""Recipe files: what was written is read again, what the command line says wins, and mistakes are answered."""

from __future__ import annotations

import pathlib
from dataclasses import replace

import pytest

from hadamem.agents.config import TrainConfig
from hadamem.recipes.arguments import read_train
from hadamem.recipes.file import read_recipe, write_recipe
from hadamem.recipes.presets import preset_config

TASK = "hadamem/TMazePassive-v0"
_SHM = [option for option in preset_config("fast", TASK, "shm").memory_options if not option.startswith("theta=")]
TEXT = """
env = "hadamem/TMazePassive-v0"
env_options = ["corridor_length=2"]
memory = "shm"
memory_size = 24
memory_options = ["theta=fixed"]
steps = 500
[ppo]
learning_rate = 2e-05
gamma = 1
max_grad_norm = "none"
[ppo.network]
hidden_size = 16
"""


@pytest.fixture
def recipe(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "recipe.toml"
    path.write_text(TEXT)
    return path


def read(path: pathlib.Path, *words: str) -> TrainConfig:
    return read_train(["--recipe", str(path), *words]).config


@pytest.mark.parametrize(
    "words",
    [
        ["--env", TASK, "--env-options", "corridor_length=2", "--memory", "gru", "--gamma", "0.9", "--no-normalise-advantages"],
        ["--preset", "popgym-paper", "--memory", "shm", "--memory-options", "rows=64", "--steps", "77", "--kl-stop", "0.1"],
        ["--agent", "sac", "--env", "Pendulum-v1", "--memory", "mlp", "--hidden-sizes", "8", "9", "--tau", "0.5"],
        ["--preset", "popgym-paper", "--max-grad-norm", "1", "--inputs", "obs", "action", "--memory-size", "8"],
    ],
)
def test_what_was_written_is_read_again(words: list[str], tmp_path: pathlib.Path) -> None:
    given = read_train(words)
    preset = given.preset or {"ppo": "fast", "sac": "sac-fast"}[given.config.agent]
    write_recipe(tmp_path / "r.toml", given.config, preset, ["learning_rate"], ["a comment", ""])
    assert read(tmp_path / "r.toml") == given.config
    assert "learning_rate = " in (tmp_path / "r.toml").read_text()  # asked for, though it is the preset's


def test_a_value_that_is_absent_is_written_as_none(tmp_path: pathlib.Path) -> None:
    config = preset_config("popgym-paper", TASK, "gru")
    assert config.inputs is not None
    config = replace(config, inputs=None)
    write_recipe(tmp_path / "r.toml", config, "popgym-paper", [], [])
    assert 'inputs = "none"' in (tmp_path / "r.toml").read_text()
    assert read(tmp_path / "r.toml").inputs is None


def test_it_gives_the_defaults_over_those_of_its_preset(recipe: pathlib.Path) -> None:
    config, preset = read(recipe), preset_config("fast", TASK, "shm", 500)
    assert (config.env, config.env_options, config.steps) == (TASK, ("corridor_length=2",), 500)
    assert (config.memory, config.memory_size) == ("shm", 24)
    assert config.memory_options == (*_SHM, "theta=fixed")  # the preset's, then its own
    ppo = replace(preset.ppo, learning_rate=2e-5, gamma=1.0, max_grad_norm=None)
    assert config.ppo == replace(ppo, network=replace(ppo.network, hidden_size=16))


def test_the_command_line_wins(recipe: pathlib.Path) -> None:
    words = ["--gamma", "0.5", "--memory-size", "8", "--memory-options", "theta=random", "--steps", "9", "--max-grad-norm", "2"]
    config = read(recipe, *words)
    assert (config.ppo.gamma, config.ppo.learning_rate, config.ppo.max_grad_norm) == (0.5, 2e-5, 2)
    assert (config.steps, config.memory_size) == (9, 8)
    assert config.memory_options == (*_SHM, "theta=random")


def test_options_of_a_task_and_of_a_memory_are_for_no_other(recipe: pathlib.Path) -> None:
    other_memory = read(recipe, "--memory", "gru")
    assert (other_memory.memory, other_memory.memory_size, other_memory.memory_options) == ("gru", 128, ())
    assert other_memory.env_options == ("corridor_length=2",)
    other_task = read(recipe, "--env=CartPole-v1")
    assert (other_task.env, other_task.env_options, other_task.memory_size) == ("CartPole-v1", (), 24)
    assert other_task.ppo.learning_rate == other_memory.ppo.learning_rate == 2e-5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stpes = 5", "has an unknown key 'stpes'; did you mean steps"),
        ("xyzzy = 5", "has an unknown key 'xyzzy'; it may have: agent, batched,"),
        ("[ppo]\nlearning_rat = 1.0", r"unknown key 'learning_rat' in \[ppo\]; did you mean learning_rate"),
        ("[ppo.network]\nhiden_size = 1", r"unknown key 'hiden_size' in \[ppo.network\]; did you mean hidden_size"),
        ("[sac]\ntau = 0.1", "has options for sac, but its agent is ppo"),
        ("ppo = 3", r"ppo is 3; it must be a table, \[ppo\]"),
        ('agent = "dqn"', "agent is 'dqn'; it must be ppo or sac"),
        ("agent = 1", "agent is 1; it must be a text"),
        ('agent = "sac"\npreset = "fast"', "preset 'fast' is for the agent ppo, not sac"),
        ('preset = "fsat"', "no preset is called 'fsat'; did you mean fast"),
        ('steps = "many"', "steps is 'many'; it must be a whole number"),
        ("steps = true", "steps is True; it must be a whole number"),
        ("steps = 0", "recipe .*: steps is 0; it must be at least 1"),
        ("env_options = [1]", r"env_options is \[1\]; it must be a list whose entries are a text"),
        ('[ppo]\nclip = "none"', "clip is 'none'; it must be a number"),
        ('[ppo]\nvalue_clip = "x"', "value_clip is 'x'; it must be a number or \"none\""),
        ('[ppo]\nschedule = "cosine"', "schedule is 'cosine'; it must be one of 'constant', 'linear'"),
        ("[ppo]\ngamma = 2", "recipe .*: gamma is 2.0; it must be between 0 and 1"),
        ("steps = ", "is not valid TOML"),
    ],
)
def test_mistakes_are_answered(text: str, message: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(path)


def test_what_does_not_go_with_a_recipe_is_answered(recipe: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="--recipe and --preset were both given; leave --preset out"):
        read(recipe, "--preset", "fast")
    with pytest.raises(ValueError, match="is for the agent ppo, not sac; leave --agent out"):
        read(recipe, "--agent", "sac")
    with pytest.raises(FileNotFoundError, match="which is no file"):
        read_recipe(recipe.with_name("other.toml"))

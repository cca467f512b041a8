"""What a search varies: only valid configurations, never what was decided, and the default as it is."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace

import pytest

from hadamem.memory import MEMORIES, make_memory, parse_options
from hadamem.recipes.arguments import memory_words, read_train
from hadamem.tuning.space import Space

optuna = pytest.importorskip("optuna", reason="the space is sampled by Optuna, which is not installed")

TASK = "hadamem/TMazePassive-v0 corridor_length=2"


def space(*words: str, memories: tuple[str, ...] = ("shm", "gru"), task: str = TASK) -> Space:
    return Space(task, memories, words, steps=100_000, episodes=20, seed=3)


def samples(space: Space, number: int) -> list:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(number)]


def test_the_default_is_that_of_train() -> None:
    for memory in ("shm", "gru:64", "shm:16 theta=fixed"):
        words = ["--env", *TASK.split()[:1], "--env-options", TASK.split()[1], *memory_words(memory), "--steps", "100000"]
        expected = read_train([*words, "--clip", "0.3"]).config
        config = space("--clip", "0.3", memories=(memory,)).defaults[memory]
        evaluation = {"evaluate_every": 100_000, "evaluate_episodes": 20}  # a score at the end
        assert config == replace(expected, seed=3, threads=1, **evaluation)


@pytest.mark.parametrize(
    "words", [(), ("--num-envs", "10", "--minibatches", "5"), ("--preset", "popgym-paper"), ("--agent", "sac")]
)
def test_the_parameters_of_the_default_lie_in_the_space_and_mean_the_default(words: tuple[str, ...]) -> None:
    memories = tuple(MEMORIES)
    there = space(*words, memories=memories, task="Pendulum-v1")
    study = optuna.create_study()
    for memory in memories:
        study.enqueue_trial(there.default_parameters(memory))
        trial = study.ask()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a value outside the range
            config = there.suggest(trial)
        assert set(trial.params) == set(there.default_parameters(memory))  # none was left to chance
        default = there.defaults[memory]
        assert config.memory_options == default.memory_options
        make_memory(memory, 8, 16, config.memory_size, **parse_options(memory, config.memory_options))
        assert make_size(config) == make_size(default)
        if not words:
            assert config.ppo == default.ppo


def make_size(config) -> int:
    memory = make_memory(config.memory, 8, 16, config.memory_size, **parse_options(config.memory, config.memory_options))
    return sum(parameter.numel() for parameter in memory.parameters())


def test_rows_of_a_batch_stay_whole() -> None:
    def batches(*words: str) -> set[tuple[int, int]]:  # PPOConfig raises an error where minibatches does not divide num_envs
        return {(config.ppo.num_envs, config.ppo.minibatches) for config in samples(space(*words, memories=("mlp",)), 40)}

    free = batches("--num-steps", "32")
    assert len({num_envs for num_envs, _ in free}) > 3
    assert len({minibatches for _, minibatches in free}) > 3
    assert batches("--num-envs", "10", "--minibatches", "5") == {(10, 5)}
    assert {minibatches for _, minibatches in batches("--minibatches", "8")} == {8}
    odd = batches("--num-envs", "24")
    assert len(odd) > 2
    assert {num_envs for num_envs, _ in odd} == {24}


def test_what_is_varied_and_what_is_not() -> None:
    there = space("--gamma", "0.9", "--num_steps=40", "--clip", "0.3", memories=("shm:16 theta=fixed", "gru"))
    configs = samples(there, 60)
    for name, few in (("gamma", 1), ("num_steps", 1), ("clip", 1)):
        assert len({getattr(config.ppo, name) for config in configs}) == few
    for name in ("learning_rate", "gae_lambda", "entropy_coefficient", "num_envs", "epochs", "minibatches"):
        assert len({getattr(config.ppo, name) for config in configs}) > 2, name
    shm = [config for config in configs if config.memory == "shm"]
    gru = [config for config in configs if config.memory == "gru"]
    assert {config.memory_size for config in shm} == {16}
    assert {config.memory_size for config in gru} == {64, 128, 256}
    assert all("theta=fixed" in config.memory_options for config in shm)
    assert {"read_norm=true", "read_norm=false"} <= {option for config in shm for option in config.memory_options}
    assert {option for config in gru for option in config.memory_options} == {"layers=2"}
    same = ("env", "env_options", "agent", "steps", "seed", "inputs", "evaluate_every")
    assert len({tuple(asdict(config)[name] for name in same) for config in configs}) == 1


@pytest.mark.parametrize("memory", ["shm", "shm lag_heads=1 mirror_heads=0", "shm lag_heads=0 mirror_heads=0 epoch_heads=3"])
def test_every_memory_that_is_tried_can_be_made(memory: str) -> None:
    for config in samples(space(memories=(memory,)), 40):
        make_memory(config.memory, 4, 4, config.memory_size, **parse_options(config.memory, config.memory_options))


@pytest.mark.parametrize(
    ("words", "memories", "message"),
    [
        (("--seed", "3"), ("gru",), "--seed cannot be given to all trainings"),
        (("--memory_size=3",), ("gru",), "--memory-size cannot be given to all trainings"),
        ((), (), "memories is empty; give at least one"),
        ((), ("gru", "gru"), "memories is gru, gru; each must be there once"),
    ],
)
def test_what_makes_no_space_is_answered(words: tuple[str, ...], memories: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space(*words, memories=memories)

"""Agents from Python: the same code as the command line's, and any kind of environment."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper

import hadamem
from hadamem.cli.main import run_command
from hadamem.envs import make_vector
from hadamem.run import read_metrics

SMALL: dict[str, Any] = {"num_envs": 4, "num_steps": 16, "minibatches": 2, "epochs": 2}


class Count(gymnasium.Env):
    """Shows how many steps were made, pays 1 for each, and ends after 5, or is cut after `cut`."""

    observation_space = gymnasium.spaces.Box(0, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, cut: int | None = None, render_mode: str | None = None) -> None:
        self.cut = cut

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return np.full(1, self.t, np.float32), 1.0, self.t == 5, self.t == self.cut, {"success": True}


def test_three_lines(tmp_path: pathlib.Path) -> None:
    agent = hadamem.PPO("gru", Count, memory_size=8, **SMALL)
    metrics = agent.learn(128)
    assert metrics["step"] == agent.steps >= 128
    result = agent.evaluate(6)
    assert (result.mean, result.episodes, result.success_rate) == (5, 6, 1)
    agent.save(tmp_path / "run")
    again = hadamem.load(tmp_path / "run")
    assert again.config.memory_size == 8
    assert again.evaluate(6) == result
    before = again.steps
    again.learn(64)
    assert again.steps >= before + 64


def test_the_same_run_as_the_command_lines(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--env", "CartPole-v1", "--memory", "shm", "--memory-size", "8", "--memory-options", "rows=64", "--steps", "1024"]
    run_command(["train", *words, "--gamma", "0.9", "--seed", "3", "--out", "words"])
    hadamem.PPO("shm", "CartPole-v1", memory_size=8, memory_options={"rows": 64}, gamma=0.9, seed=3).learn(1024, out="python")
    runs = [
        [{k: v for k, v in line.items() if "second" not in k} for line in read_metrics(tmp_path / name)]
        for name in ("words", "python")
    ]
    assert runs[0] == runs[1]
    configs = [json.loads((tmp_path / name / "config.json").read_text())["config"] for name in ("words", "python")]
    assert configs[0] == configs[1]


def test_a_class_of_a_module_is_known_on_the_command_line(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counting.py").write_text(
        f"import sys\nsys.path.append({str(pathlib.Path(__file__).parent)!r})\n"
        "from test_agent import Count\nclass Mine(Count): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import counting  # type: ignore[import-not-found]

    hadamem.PPO("mlp", counting.Mine, **SMALL).learn(64, out="run")
    assert json.loads(pathlib.Path("run/config.json").read_text())["config"]["env"] == "counting:Mine"
    run_command(["evaluate", "run", "--episodes", "2", "--json", "result.json"])
    assert json.loads(pathlib.Path("result.json").read_text())["mean"] == 5
    run_command(["train", "--env", "counting:Mine", "--memory", "mlp", "--steps", "64", "--out", "other"])
    del sys.modules["counting"]


def test_an_environment_and_a_function_that_makes_one(tmp_path: pathlib.Path) -> None:
    for env in (Count(cut=3), lambda: Count(cut=3)):
        agent = hadamem.PPO("mlp", env, **SMALL)
        agent.learn(64)
        assert agent.evaluate(4).mean == 3
        agent.save(tmp_path / agent.env)
        saved = tmp_path / agent.env / "config.json"
        saved.write_text(saved.read_text().replace(agent.env, "python.Gone-1"))  # as another program sees it
        with pytest.raises(ValueError, match=r"was an object of the Python program.*hadamem.load\(path, env=...\)"):
            hadamem.load(tmp_path / agent.env).evaluate(4)
        assert hadamem.load(tmp_path / agent.env, env).evaluate(4).mean == 3


def test_sac_learns_from_python() -> None:
    agent = hadamem.SAC(
        "gru", Count, memory_size=8, num_envs=4, num_steps=16, warmup_steps=64, batch_size=4, updates_per_step=0.1
    )
    assert "critic_loss" in agent.learn(256)
    assert agent.evaluate(4).mean == 5


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("cut", [None, 3])
def test_a_vector_of_environments_in_every_mode(mode: AutoresetMode, cut: int | None) -> None:
    vector = SyncVectorEnv([lambda: Count(cut)] * 3, autoreset_mode=mode)
    env = make_vector(vector, 3, 0)
    assert env.reset().tolist() == [[0]] * 3
    length, extra = cut or 5, int(mode == AutoresetMode.NEXT_STEP)
    for _ in range(2):
        seen = [env.step(env.random_actions()) for _ in range(length + extra)]
        last = seen[-1]
        assert [s.obs[0].item() for s in seen] == [*range(1, length + extra), 0]
        assert [s.start.tolist() for s in seen] == [[False] * 3] * (length + extra - 1) + [[True] * 3]
        assert sum(s.reward[0].item() for s in seen) == length
        assert [(e.return_, e.success) for e in last.episodes] == [(length, True)] * 3
        if cut:
            assert last.truncated.all()
            assert last.final_obs is not None
            assert last.final_obs.tolist() == [[3]] * 3
        else:
            assert last.terminated.all()


def test_an_agent_on_a_vector_of_environments() -> None:
    vector = SyncVectorEnv([Count] * 6)
    agent = hadamem.PPO("mlp", vector, epochs=1)
    agent.learn(3000)
    assert agent.config.ppo is not None
    assert (agent.config.ppo.num_envs, agent.config.ppo.num_steps, agent.config.ppo.minibatches) == (6, 42, 1)
    assert agent.evaluate(12).mean == 5
    agent.learn(300)
    vector.step(vector.action_space.sample())  # it is still open


class Narrow(VectorWrapper):
    """Its spaces are those of a single environment, as EnvPool's are."""

    def __init__(self, env: SyncVectorEnv) -> None:
        super().__init__(env)
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_vector_that_has_the_spaces_of_a_single_environment(mode: AutoresetMode) -> None:
    env = make_vector(Narrow(SyncVectorEnv([lambda: Count(cut=2)] * 3, autoreset_mode=mode)), 3, 0)
    env.reset()
    assert env.random_actions().shape == (3,)
    cut = [step.final_obs for step in (env.step(env.random_actions()) for _ in range(3)) if step.final_obs is not None]
    assert [final.tolist() for final in cut] == [[[2]] * 3]


class Broken(Count):
    def step(self, action: int) -> Any:
        raise RuntimeError("a wheel is off")


def test_what_a_vector_raises_is_its_own() -> None:
    env = make_vector(SyncVectorEnv([Broken] * 2), 2, 0)
    env.reset()
    with pytest.raises(
        hadamem.envs.EnvironmentFailedError, match="step: the environment's own code raised RuntimeError: a wheel is off"
    ):
        env.step(env.random_actions())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: hadamem.PPO("gruu", Count), "gru"),
        (lambda: hadamem.PPO("gru", 3), "env is 3; it must be an id, a class"),
        (lambda: hadamem.PPO("gru", Count, gama=0.9), "there is no option 'gama'; did you mean 'gamma'"),
        (lambda: hadamem.PPO("gru", Count, gamma=1.9), "gamma is 1.9"),
        (lambda: hadamem.PPO("gru", Count, preset="sac-fast"), "is for the agent sac"),
        (lambda: hadamem.PPO("gru", Count).evaluate(), "call learn"),
    ],
)
def test_mistakes_are_answered_in_words(call: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError, RuntimeError), match=words):
        call()


def test_what_cannot_be_copied() -> None:
    env = Count()
    env.lock = (x for x in [])  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"cannot be copied.*give its class, or a function that makes it"):
        hadamem.PPO("mlp", env)


def test_options_as_programs_have_them() -> None:
    whole, fraction = np.int64, np.float32
    agent = hadamem.PPO(
        "gru",
        "CartPole-v1",
        seed=whole(3),
        learning_rate=fraction(0.5),
        memory_size=whole(4),
        env_options={"max_episode_steps": whole(7), "sutton_barto_reward": True},
        wrappers=gymnasium.wrappers.FlattenObservation,
        inputs="obs",
        **SMALL,
    )
    assert agent.learn(whole(64))["episode_length"] == 7
    texts = hadamem.PPO(
        "gru",
        "CartPole-v1",
        seed=3,
        learning_rate=0.5,
        memory_size=4,
        env_options=["max_episode_steps=7", "sutton_barto_reward=True"],
        wrappers=["gymnasium.wrappers.transform_observation:FlattenObservation"],
        inputs=["obs"],
        **SMALL,
    )
    texts.learn(64)
    assert texts.config == agent.config


@pytest.mark.parametrize("kind", [hadamem.SAC, hadamem.R2D2])
def test_agents_with_a_replay_take_the_number_of_a_vector_of_environments(kind: type[hadamem.SAC]) -> None:
    vector = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    agent = kind("gru", vector, memory_size=4, warmup_steps=30, threads=1)
    assert agent.learn(60)["step"] >= 60
    assert agent.config.algorithm.num_envs == 3


@pytest.mark.parametrize("episodes", [0, -1])
def test_an_evaluation_needs_an_episode(episodes: int) -> None:
    with pytest.raises(ValueError, match=f"episodes is {episodes}; it must be at least 1"):
        hadamem.PPO("gru", Count, **SMALL).evaluate(episodes)

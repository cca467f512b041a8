"""Behaviour cloning: what is read of recorded episodes, and that it is learned, resumed and gone on from."""

from __future__ import annotations

import pathlib
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from test_training import config

from hadamem.agents.cloning import Cloning, open_data, read_episodes
from hadamem.agents.config import TrainConfig
from hadamem.agents.making import make_agent, make_environment
from hadamem.agents.training import load_policy, train
from hadamem.cli.train import clone
from hadamem.deploy import read_trained
from hadamem.deploy.recording import play_episode, record_episodes
from hadamem.run import read_checkpoint, read_metrics

minari = pytest.importorskip("minari")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")


@pytest.fixture(autouse=True)
def _own_data(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def leaning(observation: Any, reward: float, info: dict[str, Any]) -> int:
    """Pushes the cart under the pole."""
    return int(observation[2] + 0.5 * observation[3] > 0)


def recorded(id: str = "test/leaning-v0", episodes: int = 5, env: str = "CartPole-v1") -> str:
    made = gymnasium.make(env, max_episode_steps=40)
    played = [play_episode(made, leaning, seed) for seed in range(episodes)]
    minari.create_dataset_from_buffers(id, played, made)
    return id


def cloning(**changes: Any) -> TrainConfig:
    small = config(env="CartPole-v1", memory="gru", data="test/leaning-v0", **changes)
    return replace(small, ppo=replace(small.ppo, num_steps=20))


def test_rows_are_those_of_play() -> None:
    """With the previous action and reward: as the vector of environments gives them for the same seeds and actions."""
    made = cloning(inputs=("obs", "action", "reward"))
    env = make_environment(replace(made, env_options=("max_episode_steps=40",)), 2, 0)
    data = minari.load_dataset(recorded(episodes=2))
    found = read_episodes(data.iterate_episodes(), env.interface, 0.5, "it")
    assert found.begin.tolist() == [0, *np.cumsum([len(episode.rewards) for episode in data.iterate_episodes()])]
    obs, length = env.reset(), int(np.diff(found.begin).min())
    for t in range(length):
        here = found.begin[:-1] + t
        assert torch.equal(obs, found.obs[here])
        obs = env.step(found.action[here]).obs
    assert found.value[-3:].tolist() == [1.75, 1.5, 1.0]
    assert found.mean_return == np.diff(found.begin).mean()


def test_lanes_go_through_whole_episodes() -> None:
    recorded(episodes=3)
    made = cloning()
    agent = make_agent(made, make_environment(made, 4, 0))
    assert isinstance(agent, Cloning)
    pieces = [agent._next() for _ in range(8)]
    index, start = (torch.cat(parts, dim=1) for parts in zip(*pieces, strict=True))
    begin = agent.recorded.begin
    assert start[:, 0].all()
    assert np.array_equal(start.numpy(), np.isin(index.numpy(), begin))
    follows = index[:, 1:] == index[:, :-1] + 1
    assert (follows | start[:, 1:]).all()
    ends = index[:, :-1][start[:, 1:]].numpy() + 1
    assert len(ends)
    assert np.isin(ends, begin).all()


def test_imitation_is_learned_and_resumed_equals_uninterrupted(tmp_path: pathlib.Path) -> None:
    recorded()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(cloning(steps=80 * 60), whole)
    first, *_, last = read_metrics(whole)
    assert first["accuracy"] < 0.75
    assert last["accuracy"] > 0.9
    assert last["imitation_loss"] < first["imitation_loss"]
    assert train(cloning(steps=80 * 20), parts)
    assert train(cloning(steps=80 * 60), parts, resume=True)
    a, b = (read_checkpoint(path)["agent"]["policy"] for path in (whole, parts))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_policy_is_recorded_imitated_and_trained_on(tmp_path: pathlib.Path) -> None:
    """The circle: PPO, its episodes, a copy by imitation, and PPO again from the copy."""
    teacher, pupil, further = tmp_path / "teacher", tmp_path / "pupil", tmp_path / "further"
    taught = config(env="CartPole-v1", memory="gru", steps=160 * 2)
    train(taught, teacher)
    trained = read_trained(teacher)
    data = record_episodes(trained, "test/taught-v0", 3, seed=7)
    assert data.total_episodes == 3
    assert open_data(str(tmp_path / "minari" / "test" / "taught-v0")).total_steps == data.total_steps
    with pytest.raises(ValueError, match=r"there is a data set test/taught-v0 already"):
        record_episodes(trained, "test/taught-v0", 3)
    train(replace(taught, data="test/taught-v0", steps=160), pupil)
    start = replace(taught, start_from=str(pupil), steps=160)
    assert train(start, further)
    assert [line["step"] for line in read_metrics(further)] == [160]  # no random play first: the statistics are there
    with pytest.raises(ValueError, match=r"has another policy than this training: there, memory is 'gru'"):
        train(replace(start, memory="lstm"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


class Own(CartPoleEnv):
    """A class of a module, which Minari cannot write down."""


def test_a_class_of_a_module_is_recorded_and_named_by_its_user(tmp_path: pathlib.Path) -> None:
    own = config(env=f"{__name__}:Own", memory="gru", steps=160)
    train(own, tmp_path / "run")
    assert record_episodes(read_trained(tmp_path / "run"), "test/own-v0", 2, max_steps=20).spec.env_spec is None
    assert train(replace(own, data="test/own-v0"), tmp_path / "pupil")
    with pytest.raises(ValueError, match="test/own-v0 does not say which environment its episodes are of; give it by --env"):
        clone(["test/own-v0"])


def test_a_training_starts_from_the_weights_of_another(tmp_path: pathlib.Path) -> None:
    given = config(env="CartPole-v1", memory="gru", steps=160)
    train(given, tmp_path / "a")
    frozen = replace(given, start_from=str(tmp_path / "a"), ppo=replace(given.ppo, learning_rate=1e-12))
    train(frozen, tmp_path / "b")
    a, b = (dict(load_policy(tmp_path / name)[0].named_parameters()) for name in "ab")
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in a if "value" not in key)


def test_what_is_no_data_is_told(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="no/such-v0 is no Minari data set here"):
        open_data("no/such-v0")
    recorded()
    with pytest.raises(ValueError, match=r"episode 0 of test/leaning-v0 does not fit the policy's spaces"):
        train(replace(cloning(), env="popgym-RepeatPreviousEasy-v0"), tmp_path / "run")
    with pytest.raises(ValueError, match="data is imitated by PPO's policy, but the agent is sac"):
        TrainConfig(agent="sac", data="test/leaning-v0")

"""SAC: its losses by hand, its clocks, its restarts, and that it learns."""

from __future__ import annotations

import math
import os
import pathlib
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hadamem.agents.config import TrainConfig
from hadamem.agents.making import make_agent, make_environment
from hadamem.agents.replay import Batch
from hadamem.agents.sac import SAC, SACConfig
from hadamem.agents.training import evaluate_task, load_policy, train
from hadamem.memory import MEMORIES
from hadamem.networks import SACNetworkConfig
from hadamem.recipes.presets import preset_config
from hadamem.run import read_checkpoint, read_metrics

DISCRETE, CONTINUOUS = "popgym-RepeatPreviousEasy-v0", "Pendulum-v1"


def small(env: str, memory: str = "shm", **sac: Any) -> TrainConfig:
    network = SACNetworkConfig(
        observation_embed=6, action_embed=3, reward_embed=2, memory_output_size=7, hidden_sizes=(9,)
    )  # fmt: skip
    settings = {"num_envs": 2, "num_steps": 60, "warmup_steps": 0, "batch_size": 4, "replay_capacity": 2000, "network": network}
    return TrainConfig(
        env=env, agent="sac", memory=memory, memory_size=8, steps=1000, threads=1, sac=SACConfig(**{**settings, **sac})
    )


def agent(config: TrainConfig) -> SAC:
    torch.manual_seed(config.seed)
    made = make_agent(config, make_environment(config, config.sac.num_envs, config.seed))
    assert isinstance(made, SAC)
    return made


def random_batch(sac: SAC, lengths: tuple[int, ...] = (5, 3)) -> Batch:
    """In float64, with a terminal step, padding, and a step of burn-in in the last row."""
    B, T = len(lengths), max(lengths)
    mask = torch.arange(T) < torch.tensor(lengths)[:, None]
    mask[-1, 0] = False
    terminal = torch.zeros(B, T, dtype=torch.bool)
    terminal[0, lengths[0] - 1] = True
    head = sac.policy.head
    action = torch.randint(head.size, (B, T, 1)) if sac.discrete else torch.rand(B, T, head.action_size).double()
    obs = torch.randn(B, T + 1, sac.actor.env.layout.size).double()
    return Batch(obs, action, torch.randn(B, T).double(), terminal, mask, torch.randint(10**6, (B,)))


def doubled(config: TrainConfig) -> SAC:
    made = agent(config)
    made.log_temperature = torch.tensor(math.log(config.sac.temperature), dtype=torch.float64, requires_grad=True)
    for network in (made.policy, made.critic, made.target):
        network.double()
        for parameter in network.parameters():  # nothing nearly zero, and a target that differs from its critic
            torch.nn.init.normal_(parameter, std=0.5)
    return made


def drawn(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Instead of a random draw, so that the hand computation meets the same numbers."""
    mean, log_std = parameters.chunk(2, dim=-1)
    return mean.tanh(), (mean * log_std).sum(-1)


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS])
@pytest.mark.parametrize("memory", ["shm", "gru"])
def test_losses_by_hand(env: str, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step, number by number, in float64."""
    config = small(env, memory, gamma=0.8, temperature=0.3, target_entropy=0.4)
    sac = doubled(config)
    if not sac.discrete:
        monkeypatch.setattr(sac.policy.head, "draw", drawn)
    batch, no_start = random_batch(sac), torch.zeros(1, 1, dtype=torch.bool)
    (critic_loss, actor_loss, temperature_loss), terms = sac.losses(batch, batch.mask.sum())

    def walk(network: Any, row: int) -> list[Any]:
        """What a network gives at each observation of a row, one step at a time."""
        clock, given = batch.clock[row : row + 1], []
        state = (network if network is sac.policy else network.encoder).initial_state(1, clock)
        for t in range(batch.obs.shape[1]):
            obs = batch.obs[row : row + 1, t : t + 1]
            y, state = (network if network is sac.policy else network.encoder)(obs, state, no_start)
            given.append((obs, y))
        return given

    def soft_value(critic: Any, features: Any, parameters: Tensor) -> tuple[float, float]:
        obs, h = features
        if sac.discrete:
            pi = parameters.softmax(-1).flatten().tolist()
            first, second = critic.values(h, obs)[:, 0, 0].tolist()
            value = sum(p * (min(a, b) - 0.3 * math.log(p)) for p, a, b in zip(pi, first, second, strict=True))
            return value, -sum(p * math.log(p) for p in pi)
        action, log_prob = drawn(parameters)
        first, second = critic.values(h, obs, action).flatten().tolist()
        return min(first, second) - 0.3 * log_prob.item(), -log_prob.item()

    squares, values, entropies = [], [], []
    for row in range(2):
        actor, critic, target = (walk(network, row) for network in (sac.policy, sac.critic, sac.target))
        for t in batch.mask[row].nonzero().flatten().tolist():
            goal = batch.reward[row, t].item()
            if not batch.terminal[row, t]:
                goal += 0.8 * soft_value(sac.target, target[t + 1], actor[t + 1][1])[0]
            obs, h = critic[t]
            if sac.discrete:
                q = sac.critic.values(h, obs)[:, 0, 0, batch.action[row, t, 0]]
            else:  # Pendulum's actions lie in [-2, 2]
                q = sac.critic.values(h, obs, batch.action[row, t][None, None] / 2).flatten()
            squares.append(sum((one - goal) ** 2 for one in q.tolist()))
            value, entropy = soft_value(sac.critic, critic[t], actor[t][1])
            values.append(value)
            entropies.append(entropy)
    count = 5 + 2
    assert len(squares) == count
    assert critic_loss.item() == pytest.approx(sum(squares) / count, rel=1e-9)
    assert actor_loss.item() == pytest.approx(-sum(values) / count, rel=1e-9)
    assert terms["entropy"].item() == pytest.approx(sum(entropies) / count, rel=1e-9)
    assert temperature_loss.item() == pytest.approx(0.3 * (sum(entropies) / count - 0.4), rel=1e-9)


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS])
@pytest.mark.parametrize("memory", MEMORIES)
def test_losses_and_gradients_do_not_see_padding(env: str, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sac = doubled(small(env, memory))
    if not sac.discrete:
        monkeypatch.setattr(sac.policy.head, "draw", drawn)
    batch = random_batch(sac)

    def padded(leaf: Tensor, fill: Any) -> Tensor:
        more = leaf[:, -1:].expand(-1, 6, *leaf.shape[2:])
        return torch.cat([leaf, fill(more)], dim=1)

    other = Batch(
        padded(batch.obs, lambda more: more + 3), padded(batch.action, lambda more: more * 0),
        padded(batch.reward, lambda more: more + 99), padded(batch.terminal, torch.clone),
        padded(batch.mask, torch.zeros_like), batch.clock,
    )  # fmt: skip
    found = []
    for one in (batch, other):
        losses, _ = sac.losses(one, one.mask.sum())
        weights = [p for p in (*sac.policy.parameters(), *sac.critic.parameters()) if p.requires_grad]
        found.append([*losses, *torch.autograd.grad(sum(losses), weights, allow_unused=True)])
    for a, b in zip(*found, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS])
def test_each_loss_moves_its_own_network(env: str) -> None:
    sac = doubled(small(env))
    batch = random_batch(sac)
    (critic_loss, actor_loss, _), _ = sac.losses(batch, batch.mask.sum())
    actor, critic = list(sac.policy.parameters()), list(sac.critic.parameters())
    assert all(p.requires_grad for p in critic)
    assert all(g is None for g in torch.autograd.grad(actor_loss, critic, retain_graph=True, allow_unused=True))
    assert all(g is None for g in torch.autograd.grad(critic_loss, actor, retain_graph=True, allow_unused=True))
    assert all(g is not None and g.abs().max() > 0 for g in torch.autograd.grad(actor_loss, actor))


def test_update_follows_with_the_target() -> None:
    sac = agent(small(DISCRETE, tau=0.1))
    while not sac.replay.settle():
        sac.iterate()
    before = [p.clone() for p in sac.target.parameters()]
    sac.update(sac.replay.sample(4))
    for old, now, online in zip(before, sac.target.parameters(), sac.critic.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * online)
        assert not now.requires_grad


def test_temperature_seeks_its_entropy() -> None:
    """Too much entropy lowers the temperature, too little raises it, and a fixed one stays."""
    for target, sign in ((0.0, -1), (2.0, 1)):
        sac = agent(small(DISCRETE, target_entropy=target, updates_per_step=0.1))
        metrics = [sac.iterate() for _ in range(2)][-1]
        assert (metrics["temperature"] - 1) * sign > 0
    fixed = agent(small(DISCRETE, temperature=0.2, tune_temperature=False))
    assert fixed.iterate()["temperature"] == pytest.approx(0.2)


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS])
@pytest.mark.parametrize(("actor_memory", "layers"), [(None, 1), (None, 2), ("gru", 1)])
def test_a_replayed_episode_meets_the_numbers_that_acted(
    env: str, actor_memory: str | None, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock too: SHM's random rows are those of the time of acting, for the actor and for both critics, at every depth."""
    config = small(env, "shm", num_steps=250, updates_per_step=1e-6, actor_memory=actor_memory)
    sac = agent(replace(config, memory_options=(*config.memory_options, f"layers={layers}")))
    monkeypatch.setattr(sac.policy.head, "sample", sac.policy.head.mode)
    monkeypatch.setattr(sac.policy.normaliser, "update", lambda obs: None)  # statistics of the time of acting
    for parameter in sac.policy.mlp.parameters():
        torch.nn.init.normal_(parameter)
    sac.iterate()
    batch = sac.replay.gather(sac.replay.sequences[: sac.replay.settle()])
    state = sac.policy.initial_state(len(batch.clock), batch.clock)
    start = torch.zeros(batch.obs.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        action = sac.policy.head.mode(sac.policy(batch.obs, state, start)[0][:, :-1])
        assert torch.equal(sac.target.features(batch.obs, batch.clock), sac.critic.features(batch.obs, batch.clock))
        other = sac.critic.features(batch.obs, batch.clock + 1)
    torch.testing.assert_close(action[batch.mask].double(), batch.action[batch.mask].double(), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(other, sac.critic.features(batch.obs, batch.clock))


def test_truncation_is_not_terminal() -> None:
    sac = agent(small(CONTINUOUS, num_steps=401, updates_per_step=1e-6))
    sac.iterate()
    batch = sac.replay.sample(8)
    assert batch.mask.all()
    assert batch.obs.shape[1] == 201
    assert batch.obs[:, -1].abs().max() > 0  # the final observation is there to bootstrap from
    assert not batch.terminal.any()


@pytest.mark.parametrize("memory", MEMORIES)
def test_every_memory_acts_and_learns(memory: str) -> None:
    sac = agent(small(CONTINUOUS, memory, sequence_length=20, burn_in=5, updates_per_step=0.02, max_grad_norm=1.0))
    for _ in range(2):
        metrics = sac.iterate()
    assert math.isfinite(metrics["critic_loss"])


SCRIPT = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from test_sac import resumable
from hadamem.agents.training import train
train(resumable(), pathlib.Path(sys.argv[1]))
"""


def resumable() -> TrainConfig:
    config = small(DISCRETE, num_steps=30, updates_per_step=0.05, warmup_steps=120, replay_capacity=500)
    return replace(config, steps=60 * 25, checkpoint_every=1e9, evaluate_every=300, evaluate_episodes=3)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_and_resumed_equals_uninterrupted(tmp_path: pathlib.Path) -> None:
    """kill -9 somewhere between two checkpoints, with the ring of the replay going round: not a number differs in the end.
    The time for checkpoints never comes: they are made because the replay needs them."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(resumable(), whole)
    script = SCRIPT.format(tests=str(pathlib.Path(__file__).parent))
    child = subprocess.Popen([sys.executable, "-c", script, str(killed)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while len(read_metrics(killed)) < 15 and time.monotonic() < deadline:
        assert child.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (killed / "result.json").exists()
    assert train(resumable(), killed, resume=True)
    timing = ("seconds", "steps_per_second")
    got, want = (
        [{k: v for k, v in line.items() if k not in timing} for line in read_metrics(path)] for path in (killed, whole)
    )
    assert got == want
    assert sum("evaluation_return" in line for line in got) == 5
    a, b = (read_checkpoint(path)["agent"] for path in (killed, whole))
    for network in ("policy", "critic", "target"):
        assert all(torch.equal(a[network][key], b[network][key]) for key in a[network])


def test_load_policy(tmp_path: pathlib.Path) -> None:
    train(replace(small(CONTINUOUS, actor_memory="gru"), steps=240), tmp_path / "run")
    policy, config = load_policy(tmp_path / "run")
    assert config.sac.actor_memory == "gru"
    assert policy.head.action_size == 1
    assert config.sac.network.hidden_sizes == (9,)


def test_evaluation_meets_every_unseen_task_once(tmp_path: pathlib.Path) -> None:
    options = ("horizon=5", "num_tasks=9", "num_train=2")
    point = small("hadamem/PointRobot-v0", num_steps=10, updates_per_step=0.1)
    point = replace(point, env_options=options, evaluate_options=("split=eval",), steps=60, evaluate_every=40)
    train(point, tmp_path / "run")
    assert ["evaluation_success" in line for line in read_metrics(tmp_path / "run")] == [False, True, False]
    policy, config = load_policy(tmp_path / "run")
    result = evaluate_task(config, policy, seed=0)
    assert result.episodes == 7
    assert len(result.inner_means) == 2
    assert evaluate_task(config, policy, seed=0, episodes=3).episodes == 3


def test_learns_a_task_that_needs_memory() -> None:
    """A T-maze of 11 steps: without memory 0.5 is the best mean return. Some seconds: 7,000 steps and 350 updates."""
    config = preset_config("sac-fast", "hadamem/TMazePassive-v0", "shm")
    sac = replace(config.sac, num_steps=11, warmup_steps=1_000, learning_rate=2e-3, tau=0.02)
    trained = agent(replace(config, env_options=("corridor_length=10",), sac=sac))
    returns = []
    while trained.step < 15_000 and (not returns or returns[-1] < 0.9):
        returns.append(trained.iterate()["return"])
    assert returns[0] < -0.5
    assert returns[-1] >= 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"burn_in": 5}, "burn_in is 5; it must be between 0 and sequence_length, which is None"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"tau": 2}, "tau is 2; it must be between 0 and 1"),
        ({"updates_per_step": 0}, "updates_per_step is 0; it must be greater than 0"),
    ],
)
def test_bad_options(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SACConfig(**options)


def test_spaces_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"not supported by SAC.*--agent ppo"):
        agent(small("popgym-BattleshipEasy-v0"))
    with pytest.raises(ValueError, match="options for sac, but the agent is ppo"):
        TrainConfig(sac=SACConfig())

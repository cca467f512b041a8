"""R2D2: its targets by hand, its stored states, its priorities, its restarts, and that it learns."""

from __future__ import annotations

import math
import pathlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import hadamem
from hadamem.agents.config import TrainConfig
from hadamem.agents.making import make_agent, make_environment
from hadamem.agents.r2d2 import R2D2, R2D2Config
from hadamem.agents.replay import Batch
from hadamem.agents.training import evaluate_task, load_policy, train
from hadamem.memory import MEMORIES
from hadamem.networks import SACNetworkConfig
from hadamem.recipes.presets import preset_config
from hadamem.run import RunError, read_checkpoint, read_metrics

TASK = "popgym-RepeatPreviousEasy-v0"


def small(memory: str = "shm", env: str = TASK, **r2d2: Any) -> TrainConfig:
    network = SACNetworkConfig(observation_embed=6, action_embed=3, reward_embed=2, memory_output_size=7, hidden_sizes=(9,))
    settings = {"num_envs": 2, "num_steps": 60, "warmup_steps": 0, "batch_size": 4, "replay_capacity": 2000, "network": network}
    return TrainConfig(
        env=env, agent="r2d2", memory=memory, memory_size=8, steps=1000, threads=1, r2d2=R2D2Config(**{**settings, **r2d2})
    )


def agent(config: TrainConfig) -> R2D2:
    torch.manual_seed(config.seed)
    made = make_agent(config, make_environment(config, config.r2d2.num_envs, config.seed))
    assert isinstance(made, R2D2)
    return made


@pytest.mark.parametrize("n_step", [1, 3, 100])
def test_targets_by_hand(n_step: int) -> None:
    """Fewer rewards than n where the sequence ends, and no value after a terminal step."""
    made = agent(small(gamma=0.8, n_step=n_step, normalise_rewards=False))
    B, T, lengths = 2, 7, (7, 4)
    mask = torch.arange(T) < torch.tensor(lengths)[:, None]
    mask[1, 0] = False  # burn-in
    terminal = torch.zeros(B, T, dtype=torch.bool)
    terminal[1, lengths[1] - 1] = True
    reward, value = torch.randn(B, T), torch.randn(B, T + 1)
    nothing = torch.zeros(B, dtype=torch.int64)
    got = made._targets(Batch(torch.zeros(B, T + 1, 1), torch.zeros(B, T, 1), reward, terminal, mask, nothing), value)
    for b in range(B):
        for t in range(lengths[b]):
            n = min(n_step, lengths[b] - t)
            want = sum(0.8**k * reward[b, t + k] for k in range(n))
            if not terminal[b, t + n - 1]:
                want += 0.8**n * value[b, t + n]
            if mask[b, t]:
                assert got[b, t] == pytest.approx(float(want), abs=1e-5)


def test_the_best_action_is_the_networks_and_its_value_the_targets() -> None:
    made = agent(small("gru", gamma=0.9, n_step=1, normalise_rewards=False))
    for network in (made.policy, made.target):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    made.iterate()
    batch = made.replay.gather(made.replay.sequences[:1])
    state, first = made.policy.initial_state(1), torch.ones(1, dtype=torch.bool)
    _, _, error = made.loss(batch, state, first, torch.ones(1))
    start = torch.zeros(batch.obs.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        mine, theirs = (network(batch.obs, state, start)[0][0] for network in (made.policy, made.target))
    for t in range(batch.reward.shape[1]):
        following = 0.0 if batch.terminal[0, t] else float(theirs[t + 1, mine[t + 1].argmax()])
        want = float(batch.reward[0, t]) + 0.9 * following - float(mine[t, batch.action[0, t, 0]])
        assert float(error[0, t]) == pytest.approx(abs(want), abs=1e-4)


@pytest.mark.parametrize("burn_in", [0, 3, 9])
@pytest.mark.parametrize(("memory", "layers"), [("gru", 1), ("shm", 1), ("shm", 2)])
def test_slices_begin_with_the_state_that_acted(memory: str, layers: int, burn_in: int) -> None:
    """Replayed with the weights that acted, a slice in the middle of an episode gives the values of the whole episode."""
    sizes = {"num_steps": 130, "updates_per_step": 1e-9, "epsilon": 0.5, "num_envs": 3}
    config = small(memory, sequence_length=9, burn_in=burn_in, **sizes)
    config = replace(config, memory_options=(*config.memory_options, f"layers={layers}"))
    made = agent(config)
    made.policy.normaliser.update = lambda obs: None  # statistics of the time of acting
    seen = []
    forward = made.policy.distribution

    def watched(obs: Any, state: Any, start: Any) -> Any:
        values, state = forward(obs, state, start)
        seen.append(values[:, 0])
        return values, state

    made.policy.distribution = watched
    made.iterate()
    acted = torch.stack(seen, 1)  # (N, steps, A)
    sequences = made.replay.sequences
    # where an episode ended, its last observation took an entry of its own: count the steps before
    starts = {(int(lane), int(begin)) for lane, begin, _, skip, _ in sequences if not skip}
    assert len(starts) > 3
    batch = made.replay.gather(sequences)
    state, first = made.replay.beginning(sequences)
    state = made.policy.encoder.memory.begin_at(state, batch.clock)
    start = torch.nn.functional.pad(first[:, None], (0, batch.reward.shape[1]))
    values, _ = forward(batch.obs, state, start)
    in_the_middle = 0
    for row, (lane, begin, length, _, _) in enumerate(sequences.tolist()):
        entries = made.replay._entries[lane]
        ended = sum(bool(entries[i]["start"]) for i in range(1, begin + 1))  # each left an entry more behind
        steps = acted[lane, begin - ended : begin - ended + length]
        torch.testing.assert_close(values[row, :length], steps, rtol=1e-4, atol=1e-5)
        in_the_middle += not first[row]
    assert in_the_middle > 10


def test_what_surprises_is_replayed_more_often() -> None:
    made = agent(small(updates_per_step=1e-9, num_steps=250))
    made.iterate()
    replay = made.replay
    count = replay.settle()
    assert count > 5
    assert (replay.priority == replay.priority.max()).all()  # nothing is known of them
    replay.priority[:] = 1.0
    replay.priority[2] = 9.0
    drawn, probability = replay.draw(20_000, 1.0)
    share = np.bincount(drawn, minlength=count) / 20_000
    assert share[2] == pytest.approx(9 / (count + 8), rel=0.1)
    assert float(probability[drawn == 2][0]) == pytest.approx(9 * count / (count + 8))
    made._learn_once()
    assert (replay.priority != 1.0).any()
    before = dict(zip(map(tuple, replay.sequences.tolist()), replay.priority, strict=True))
    while min(begin for _, begin, *_ in before) <= (replay.head - replay.kept).max():
        before.pop(min(before, key=lambda sequence: sequence[1]))
    while made.step < 3_000:  # the first ones are forgotten, and priorities stay with their sequences
        made.iterate()
    replay.settle()
    after = dict(zip(map(tuple, replay.sequences.tolist()), replay.priority, strict=True))
    assert len(after) == len(replay.sequences) == len(replay.priority)
    assert all(before[sequence] == after[sequence] for sequence in before.keys() & after.keys())


def test_environments_explore_each_in_their_own_way() -> None:
    made = agent(small(num_envs=3, epsilon=0.5))
    assert made.epsilon[:, 0].tolist() == pytest.approx([0.5, 0.5**4.5, 0.5**8])
    assert agent(small(num_envs=1)).epsilon.shape == (1, 1)


@pytest.mark.parametrize("memory", MEMORIES)
def test_every_memory_acts_and_learns(memory: str) -> None:
    made = agent(small(memory, sequence_length=20, burn_in=5, updates_per_step=0.02, max_grad_norm=1.0))
    for _ in range(2):
        metrics = made.iterate()
    assert math.isfinite(metrics["q_loss"])


def test_a_run_goes_on_to_the_number(tmp_path: pathlib.Path) -> None:
    """With slices, whose states lie in a file of their own, and a ring that goes round."""
    config = small(sequence_length=9, burn_in=3, num_steps=30, updates_per_step=0.05, replay_capacity=500)
    config = replace(config, steps=1500)
    train(config, tmp_path / "whole")
    train(replace(config, steps=660), tmp_path / "parts")
    assert (tmp_path / "parts" / "replay.states.bin").exists()
    states = tmp_path / "parts" / "replay.states.bin"
    states.rename(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"replay\.states\.bin must be the replay of this run"):
        train(config, tmp_path / "parts", resume=True)
    (tmp_path / "elsewhere").rename(states)
    train(config, tmp_path / "parts", resume=True)
    a, b = (read_checkpoint(tmp_path / name)["agent"] for name in ("whole", "parts"))
    for network in ("policy", "target"):
        assert all(torch.equal(a[network][key], b[network][key]) for key in a[network])
    assert read_metrics(tmp_path / "parts")[-1]["q_loss"] == read_metrics(tmp_path / "whole")[-1]["q_loss"]
    policy, loaded = load_policy(tmp_path / "parts")
    policy.epsilon = 1.0
    greedy, exploring = (evaluate_task(loaded, policy, 0, 4, greedy=greedy) for greedy in (True, False))
    assert greedy.episodes == exploring.episodes == 4
    assert greedy.mean != exploring.mean


def test_from_python() -> None:
    made = hadamem.R2D2("gru", "CartPole-v1", memory_size=8, num_envs=2, warmup_steps=0, batch_size=2)
    metrics = made.learn(400)
    assert math.isfinite(metrics["q_loss"])
    assert made.act([0.0, 0.1, 0.0, -0.1]) in (0, 1)


def test_learns_a_task_that_needs_memory() -> None:
    """A T-maze of 11 steps: without memory 0.5 is the best mean return."""
    config = preset_config("r2d2-fast", "hadamem/TMazePassive-v0", "shm")
    r2d2 = replace(config.r2d2, num_steps=11, warmup_steps=1_000)
    trained = agent(replace(config, env_options=("corridor_length=10",), r2d2=r2d2))
    while trained.step < 30_000 and not evaluated(trained) > 0.9:
        for _ in range(5):
            trained.iterate()
    assert evaluated(trained) > 0.9


def evaluated(made: R2D2) -> float:
    config = preset_config("r2d2-fast", "hadamem/TMazePassive-v0", "shm")
    with torch.random.fork_rng():
        return evaluate_task(replace(config, env_options=("corridor_length=10",)), made.policy, 0, 20).mean


def test_spaces_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"not supported by R2D2; it must be Discrete.*--agent ppo"):
        agent(small(env="Pendulum-v1"))
    with pytest.raises(ValueError, match="options for r2d2, but the agent is ppo"):
        TrainConfig(r2d2=R2D2Config())
    with pytest.raises(ValueError, match="n_step is 0; it must be at least 1"):
        R2D2Config(n_step=0)

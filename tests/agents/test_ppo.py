"""PPO: its arithmetic, the ratio of one, and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from hadamem.agents.config import TrainConfig
from hadamem.agents.making import make_agent, make_environment, make_policy
from hadamem.agents.ppo import PPO, PPOConfig
from hadamem.agents.rollout import EpisodeStats, Rollout, advantages
from hadamem.envs.vector import Episode
from hadamem.memory import MEMORIES
from hadamem.recipes.presets import PRESETS, preset_config


def agent(config: TrainConfig) -> PPO:
    torch.manual_seed(config.seed)
    env = make_environment(config, config.ppo.num_envs, config.seed)
    return PPO(make_policy(config, env), env, config.ppo, config.steps)


def small(env: str = "popgym-RepeatPreviousEasy-v0", memory: str = "shm", **ppo: object) -> TrainConfig:
    settings = {"num_envs": 4, "num_steps": 70, "epochs": 2, "minibatches": 2, **ppo}
    return TrainConfig(env=env, memory=memory, memory_size=8, steps=1000, ppo=PPOConfig(**settings))


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("env", ["popgym-RepeatPreviousEasy-v0", "popgym-BattleshipEasy-v0"])
def test_ratio_is_one_before_the_first_step(memory: str, env: str) -> None:
    """Rows replayed from the stored state meet the same numbers, over episode ends (51 and about 60 steps) and updates."""
    trained = agent(small(env, memory, minibatches=4))
    for _ in range(3):
        assert trained.iterate()["ratio_error"] < 1e-5


def test_the_first_to_end_do_not_speak_for_all() -> None:
    score = EpisodeStats(num_envs=3)
    assert math.isnan(score.update([Episode(1.0, 2, None)])["return"])
    assert score.update([Episode(-1.0, 9, None), Episode(-1.0, 9, None)])["return"] == pytest.approx(-1 / 3)


def test_ratio_is_one_with_truncation_and_continuous_actions() -> None:
    trained = agent(small("Pendulum-v1", num_steps=250))
    for _ in range(2):
        assert trained.iterate()["ratio_error"] < 1e-4  # actions of order 1 in float32, densities of order 1


def test_advantages_by_hand() -> None:
    """Two rows of three steps; in the second an episode ends after the second step."""
    zeros = torch.zeros(2, 3)
    rollout = Rollout(
        obs=zeros, start=zeros, action=zeros, log_prob=zeros, state={},
        value=torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]),
        reward=torch.tensor([[1.0, 0.0, 2.0], [1.0, 5.0, 2.0]]),
        end=torch.tensor([[False, False, False], [False, True, False]]),
        last_value=torch.tensor([4.0, 4.0]),
    )  # fmt: skip
    gamma, lam = 0.5, 0.8
    d = [1 + 0.5 * 2 - 1, 0 + 0.5 * 3 - 2, 2 + 0.5 * 4 - 3]
    e = [1 + 0.5 * 2 - 1, 5 - 2, 2 + 0.5 * 4 - 3]
    want = [
        [d[0] + 0.4 * (d[1] + 0.4 * d[2]), d[1] + 0.4 * d[2], d[2]],
        [e[0] + 0.4 * e[1], e[1], e[2]],
    ]
    torch.testing.assert_close(advantages(rollout, gamma, lam), torch.tensor(want))


def test_truncation_bootstraps_from_the_final_observation() -> None:
    """Pendulum never terminates: after 200 steps it is truncated, and the value of what would have come is added."""
    config = small("Pendulum-v1", num_steps=200, gamma=0.9)
    with_value = agent(config)
    with_value.actor.collect(with_value.rollout, 0.9)
    without = agent(config)
    without.actor.collect(without.rollout, 0.0)
    assert with_value.rollout.end[:, -1].all()
    torch.testing.assert_close(with_value.rollout.reward[:, :-1], without.rollout.reward[:, :-1])
    added = with_value.rollout.reward[:, -1] - without.rollout.reward[:, -1]
    # the state before the reset and the final observation are gone; replay the row to get them back
    env = make_environment(config, 4, config.seed)
    policy, obs = with_value.policy, env.reset()
    for t in range(200):
        torch.testing.assert_close(obs, with_value.rollout.obs[:, t])
        step = env.step(with_value.rollout.action[:, t])
        obs = step.obs
    rollout = with_value.rollout
    assert step.final_obs is not None
    with torch.no_grad():
        _, _, state = policy(rollout.obs, rollout.state, rollout.start)
        _, value, _ = policy(step.final_obs[:, None], state, torch.zeros(4, 1, dtype=torch.bool))
    torch.testing.assert_close(added, 0.9 * value[:, 0], rtol=1e-4, atol=1e-5)


def test_kl_stop_leaves_early() -> None:
    config = small(learning_rate=0.05, epochs=20)
    free, stopped = agent(config), agent(replace(config, ppo=replace(config.ppo, kl_stop=0.001)))
    assert stopped.iterate()["kl"] < 0.002 < free.iterate()["kl"]


def test_step_kl_stop_sees_the_step_that_changes_most() -> None:
    config = small(learning_rate=0.05, epochs=20)
    free, stopped = agent(config), agent(replace(config, ppo=replace(config.ppo, step_kl_stop=0.002)))
    changed, limited = free.iterate(), stopped.iterate()
    assert limited["step_kl"] < 0.01 < changed["step_kl"]
    assert changed["kl"] < changed["step_kl"]


def test_kl_penalty_adapts() -> None:
    trained = agent(small(learning_rate=0.05, epochs=5, kl_coefficient=0.2, kl_target=1e-6))
    assert trained.iterate()["kl_coefficient"] == pytest.approx(0.3)
    trained = agent(small(learning_rate=1e-6, kl_coefficient=0.2, kl_target=10.0))
    assert trained.iterate()["kl_coefficient"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("option", "changes"),
    [
        ({"value_clip": 1e-3}, True),
        ({"value_loss_cap": 1e-6}, True),
        ({"normalise_advantages": False}, True),
        ({"normalise_advantages": True}, False),  # the default
    ],
)
def test_options_change_the_update(option: dict, changes: bool) -> None:
    plain = agent(small(learning_rate=0.01))
    plain.iterate()
    other = agent(small(learning_rate=0.01, **option))
    other.iterate()
    difference = [(p - o).abs().max() for p, o in zip(plain.policy.parameters(), other.policy.parameters(), strict=True)]
    assert (max(difference) > 0) == changes


def test_learning_rate_falls_to_zero() -> None:
    trained = agent(small(schedule="linear"))  # 280 steps an iteration of 1000
    rates = []
    for _ in range(4):
        trained.iterate()
        rates.append(trained.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 0.72e-3, 0.44e-3, 0.16e-3])


def test_recurrent_weights_learn_at_a_rate_of_their_own() -> None:
    """Adam's first steps are as large as the learning rate, whatever the gradient."""
    config = small(learning_rate=1e-3, memory_rate=0.1, epochs=1, minibatches=1, kl_stop=None)
    options = ("heads=2", "shortcut=true", "convolution=2", "read_norm=true")
    trained = agent(replace(config, memory="shm", memory_options=options))
    memory = trained.policy.memory
    before = {name: weight.detach().clone() for name, weight in memory.named_parameters()}
    trained.iterate()
    largest = {name: (weight - before[name]).abs().max().item() for name, weight in memory.named_parameters()}
    slow = {name for name in largest if name.startswith(("project", "table", "read_norm"))}
    assert len(slow) == 4 < len(largest)
    for name, step in largest.items():
        assert 0.5 < step / (1e-4 if name in slow else 1e-3) < 1.01, name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"minibatches": 7}, "minibatches is 7; it must divide num_envs = 64"),
        ({"num_envs": 1, "num_steps": 1, "minibatches": 1}, "rollouts of at least 2 steps: raise num_steps"),
        ({"gamma": 1.5}, "gamma is 1.5; it must be between 0 and 1"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"noise_correlation": 2}, "noise_correlation is 2; it must be between 0 and 1"),
        ({"entropy_coefficient": float("nan")}, "entropy_coefficient is nan; it must be at least 0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; it must be greater than 0"),
    ],
)
def test_bad_options(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PPOConfig(**options)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "env", ["popgym-RepeatPreviousEasy-v0", "popgym-AutoencodeHard-v0", "CartPole-v1", "hadamem/VisualMatch-v0"]
)
def test_presets_build(preset: str, env: str) -> None:
    for memory in MEMORIES:
        config = preset_config(preset, env, memory)
        make_agent(config, make_environment(config, 1, 0))
    paper = preset_config("popgym-paper", env, "shm")
    assert paper.memory_size == (32 if "Hard" in env else 128)
    assert paper.ppo.num_envs * paper.ppo.num_steps == 65_536


def test_learns_a_task_that_needs_memory() -> None:
    """Some tens of seconds on one core. Random play returns -0.5; what can be had without memory is about -0.4."""
    config = preset_config("fast", "popgym-RepeatPreviousEasy-v0", "shm", steps=200_000)
    trained, metrics = agent(config), {"return": -1.0}
    while trained.step < config.steps and not metrics["return"] > 0:
        metrics = trained.iterate()
    assert metrics["return"] > 0


def test_learns_where_a_sign_tells_the_way() -> None:
    """A T-maze of 11 steps with the preset for credit, in some seconds: without memory 0.5 is the best mean return."""
    config = preset_config("credit-fast", "hadamem/TMazePassive-v0", "shm")
    config = replace(config, env_options=("corridor_length=10",), ppo=replace(config.ppo, num_steps=11))
    trained, metrics = agent(config), {"return": -1.0}
    while trained.step < 300_000 and metrics["return"] < 0.9:
        metrics = trained.iterate()
    assert metrics["return"] > 0.9

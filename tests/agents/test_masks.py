"""Masks of legal actions with every memory and both agents: nothing illegal is ever played, and what is legal is learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from hadamem.agents.config import TrainConfig, seed_for
from hadamem.agents.evaluation import evaluate
from hadamem.agents.making import make_agent, make_environment
from hadamem.agents.ppo import PPOConfig
from hadamem.agents.r2d2 import R2D2Config
from hadamem.agents.sac import SACConfig
from hadamem.envs import make_vector
from hadamem.memory import MEMORIES

CHOICES = 8


class Cards(gymnasium.Env):
    """A card lies open at first; the hand (the legal actions) changes every step and always holds it. Playing it pays 1."""

    observation_space: spaces.Space = spaces.Discrete(CHOICES + 1)
    action_space: spaces.Space = spaces.Discrete(CHOICES, start=3)
    illegal = 0  # plays, of all environments

    def __init__(self, source: str = "info", steps: int = 10) -> None:
        self.source, self.steps, self.hand = source, steps, np.zeros(CHOICES, np.int8)
        if source == "key":
            mask = spaces.MultiBinary(CHOICES)
            self.observation_space = spaces.Dict({"action_mask": mask, "card": spaces.Discrete(CHOICES + 1)})
        if source == "method":
            self.action_masks = lambda: self.hand

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.card, self.t = int(self.np_random.integers(CHOICES)), 0
        return self.seen(self.card)

    def seen(self, shown: int) -> tuple[Any, dict[str, Any]]:
        self.hand[:] = 0  # the same array every time: whoever keeps it must copy
        self.hand[self.np_random.choice(CHOICES, 3, replace=False)] = 1
        self.hand[self.card] = 1
        if self.t == self.steps:
            self.hand[:] = 0
        observation = {"action_mask": self.hand, "card": shown} if self.source == "key" else shown
        return observation, {"action_mask": self.hand} if self.source == "info" else {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        choice, self.t = int(action) - 3, self.t + 1
        type(self).illegal += not self.hand[choice]
        reward = float(choice == self.card) / self.steps
        observation, info = self.seen(CHOICES)
        return observation, reward, False, self.t == self.steps, info


class TwoCards(Cards):
    """The same with a pair of cards to play, of which the second is free."""

    action_space = spaces.MultiDiscrete([CHOICES, 3], start=[3, 0])

    def seen(self, shown: int) -> tuple[Any, dict[str, Any]]:
        observation, _ = super().seen(shown)
        return observation, {"action_mask": (self.hand, np.array([1, 0, 1]))}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        type(self).illegal += action[1] == 1
        return super().step(action[0])


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    for name, made in (("Cards-v0", Cards), ("TwoCards-v0", TwoCards)):
        gymnasium.register(name, made)
        made.illegal = 0
    yield
    for name in ("Cards-v0", "TwoCards-v0"):
        del gymnasium.registry[name]


def config(agent: str = "ppo", memory: str = "gru", source: str = "info", env: str = "Cards-v0", **more: Any) -> TrainConfig:
    replayed = {"num_envs": 4, "num_steps": 20, "updates_per_step": 0.1, "warmup_steps": 80, "batch_size": 8}
    algorithm = {
        "ppo": lambda: PPOConfig(num_envs=4, num_steps=20, minibatches=2, epochs=2),
        "sac": lambda: SACConfig(**replayed),
        "r2d2": lambda: R2D2Config(**replayed),
    }[agent]()
    options = () if env == "TwoCards-v0" else (f"source={source}",)
    return TrainConfig(env=env, agent=agent, memory=memory, env_options=options, **{agent: algorithm}, **more)  # type: ignore[arg-type]


def trained(config: TrainConfig, iterations: int) -> tuple[Any, list[dict[str, float]]]:
    torch.manual_seed(0)
    agent = make_agent(config, make_environment(config, config.algorithm.num_envs, seed_for(config.seed, "environment")))
    return agent, [agent.iterate() for _ in range(iterations)]


@pytest.mark.parametrize("memory", MEMORIES)
def test_nothing_illegal_is_played_and_the_ratio_is_one(memory: str) -> None:
    agent, metrics = trained(config(memory=memory), 3)
    assert Cards.illegal == 0
    assert max(m["ratio_error"] for m in metrics) < 1e-4
    for greedy in (True, False):
        evaluate(make_vector("Cards-v0", 4, 5), agent.policy, 8, greedy)
    assert Cards.illegal == 0


@pytest.mark.parametrize("memory", ["gru", "shm", "mlp"])
def test_nothing_illegal_is_played_by_sac(memory: str) -> None:
    agent, metrics = trained(config("sac", memory), 4)
    assert all(np.isfinite(metrics[-1][name]) for name in ("critic_loss", "actor_loss", "entropy"))
    evaluate(make_vector("Cards-v0", 4, 5, inputs=("obs", "action")), agent.policy, 8)
    assert Cards.illegal == 0
    # of 3 or 4 cards, 8 with probability 0 left out
    assert 0.9 * np.log(3) < metrics[-1]["entropy"] < np.log(4)


@pytest.mark.parametrize("memory", ["gru", "shm"])
def test_nothing_illegal_is_played_by_r2d2(memory: str) -> None:
    agent, metrics = trained(config("r2d2", memory), 4)
    assert np.isfinite(metrics[-1]["q_loss"])
    for greedy in (True, False):
        evaluate(make_vector("Cards-v0", 4, 5, inputs=("obs", "action")), agent.policy, 8, greedy)
    assert Cards.illegal == 0


def test_random_play_is_legal() -> None:
    for id in ("Cards-v0", "TwoCards-v0"):
        evaluate(make_vector(id, 4, 5), None, 8)
    assert Cards.illegal == TwoCards.illegal == 0


@pytest.mark.parametrize("agent", ["ppo", "sac", "r2d2"])
def test_the_run_is_the_same_whoever_says_the_mask(agent: str) -> None:
    runs = [trained(config(agent, source=source), 3)[1] for source in ("info", "key", "method")]
    for other in runs[1:]:
        assert [{k: v for k, v in m.items() if v == v} for m in other] == [
            {k: v for k, v in m.items() if v == v} for m in runs[0]
        ]


@pytest.mark.parametrize("joint", [False, True])
def test_every_place_of_an_action_has_its_mask(joint: bool) -> None:
    made = config(env="TwoCards-v0", joint_actions=joint)
    agent, metrics = trained(made, 3)
    assert agent.policy.head.size == (CHOICES * 3 if joint else CHOICES + 3)
    assert TwoCards.illegal == 0
    assert metrics[0]["ratio_error"] < 1e-5


def test_illegal_logits_have_no_gradient() -> None:
    agent, _ = trained(config(), 1)
    policy, env = agent.policy, make_vector("Cards-v0", 3, 0)
    obs = env.reset()
    mask = obs[:, env.layout.mask.columns].bool()
    parameters = torch.zeros(3, CHOICES, requires_grad=True)
    head, masked = policy.head, policy.legal(parameters, obs)
    (head.entropy(masked).sum() + head.log_prob(masked, head.mode(masked)).sum()).backward()
    assert parameters.grad is not None
    assert (parameters.grad[~mask] == 0).all()
    assert torch.isfinite(parameters.grad).all()
    torch.testing.assert_close(head.entropy(masked), mask.sum(-1).float().log())


def test_masked_play_is_learned() -> None:
    """Playing at random among the legal pays about 0.27; never looking at the first card but at the hands alone 0.3 to 0.4."""
    made = config(steps=40_000)
    made.ppo = PPOConfig(num_envs=16, num_steps=40, minibatches=4, epochs=4, learning_rate=3e-3)
    agent, (metrics,) = trained(made, 1)
    while agent.step < made.steps and not metrics["return"] > 0.7:
        metrics = agent.iterate()
    assert metrics["return"] > 0.7


def test_a_policy_with_masks_refuses_an_environment_without() -> None:
    agent, _ = trained(config(), 1)
    with pytest.raises(ValueError, match=r"obs.action_mask: there vector of shape \(8,\), unit 1.0, here nothing"):
        evaluate(make_vector("Cards-v0", 4, 5, source="none"), agent.policy, 4)


class Wrong(Cards):
    """Its mask goes wrong at step 3."""

    def seen(self, shown: int) -> tuple[Any, dict[str, Any]]:
        observation, info = super().seen(shown)
        if self.t == 3:
            info["action_mask"] = self.wrong
        return observation, info

    wrong: Any = None


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (None, "there is no action_mask, though there was one before"),
        (np.ones(5), r"action_mask has 5 numbers; Discrete\(8, start=3\) has 8 choices"),
        (np.full(8, 0.5), "action_mask holds 0.5; it must hold 1 for legal choices and 0 for others"),
        (np.zeros(8), "action_mask allows none of the 8 choices"),
        ("no", "action_mask is no mask of"),
    ],
)
def test_a_wrong_mask_is_named_with_its_place(mask: Any, words: str) -> None:
    gymnasium.register("Wrong-v0", Wrong, kwargs={})
    Wrong.wrong = mask
    try:
        env = make_vector("Wrong-v0", 2, 0)
        env.reset()
        env.step(env.random_actions())
        env.step(env.random_actions())
        actions = env.random_actions()
        with pytest.raises(ValueError, match=f"Wrong-v0, environment 0, step 3 of the episode: {words}"):
            env.step(actions)
    finally:
        del gymnasium.registry["Wrong-v0"]

"""Proximal policy optimisation (Schulman et al., 2017) for policies with a memory.

The memory's state is stored once per row of a rollout, before its first step. An update recomputes whole rows from that state,
with the resets inside them: without padding, without truncation within a row, and with the same numbers as while acting, so
that before the first gradient step of every update the probability ratio is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from .. import distributed
from ..checks import check_fields
from ..envs import VectorEnvironment
from ..networks import ActorCritic, NetworkConfig
from .learning import adam, fast_products, gradient_step, mean_terms, set_learning_rate
from .not_finite import not_finite
from .rollout import EpisodeStats, Rollout, advantages
from .turns import actor

_FIRST_STATISTICS = 64  # steps of random play in each environment, before the first rollout
# Statistics of observations are updated in this first part of a run only. Each update changes the policy's behaviour, which
# neither the clip range nor the learning rate limits: late in a run, it could undo what was learned.
_STATISTICS_UNTIL = 0.5


@dataclass
class PPOConfig:
    """Options of PPO."""

    num_envs: int = 64
    """number of environments that are stepped in parallel; each fills one row of a rollout"""
    num_steps: int = 128
    """steps taken in each environment before every update; the length of a rollout"""
    epochs: int = 4
    """number of passes over each rollout"""
    minibatches: int = 8
    """parts into which a rollout is split, one gradient step for each; must divide the number of environments"""
    learning_rate: float = 1e-3
    """Adam's learning rate"""
    memory_rate: float = 1.0
    """learning rate of the memory's recurrent weights, relative to learning_rate: their changes add up over the steps of an
    episode, so that some memories need less"""
    schedule: Literal["constant", "linear"] = "constant"
    """whether learning rate and entropy bonus stay constant or fall linearly to zero over the run"""
    adam_epsilon: float = 1e-5
    """Adam's epsilon, added to the denominator of every step"""
    gamma: float = 0.99
    """discount factor of future rewards, per step: 0 counts only the next reward, near 1 the distant ones too"""
    gae_lambda: float = 0.95
    """lambda of generalised advantage estimation: 0 relies on the critic alone, 1 on the observed returns alone"""
    clip: float = 0.2
    """PPO's clip range: an action whose probability ratio has moved further than this from 1 in the direction of its advantage
    has no gradient"""
    value_clip: float | None = None
    """clip range of the value loss: how far an update may move a value estimate; None: no clipping"""
    value_loss_cap: float | None = None
    """squared value errors above this have no gradient (10 in the code of the SHM paper); None: no cap"""
    value_coefficient: float = 0.5
    """weight of the value loss in the total loss"""
    entropy_coefficient: float = 0.01
    """weight of the entropy bonus, in nats; larger values explore more"""
    noise_correlation: float = 0.0
    """correlation of the noise of continuous actions from step to step: 0 is white noise; near 1, the noise changes slowly"""
    normalise_advantages: bool = True
    """whether advantages are normalised to mean 0 and standard deviation 1 over each rollout"""
    max_grad_norm: float | None = 0.5
    """largest norm of the gradient; a gradient with a larger norm is scaled down to it; None: no limit"""
    kl_stop: float | None = None
    """end an update early once the KL divergence from the policy that acted exceeds this many nats; None: never"""
    step_kl_stop: float | None = None
    """end a pass over a rollout early once the KL divergence at the step of each row at which the policy changed most exceeds
    this many nats, on average over rows: a mean over all steps hides a change at a single decisive step; None: never"""
    kl_coefficient: float = 0.0
    """initial weight of a penalty on the KL divergence from the policy that acted; 0: no penalty"""
    kl_target: float = 0.01
    """KL divergence per update, in nats, that the KL penalty aims at: above twice this value the weight of the penalty grows by
    half, below half of this value the weight is halved"""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """the network around the memory"""

    def __post_init__(self) -> None:
        check_fields(self, ("num_envs", "num_steps", "epochs", "minibatches"), at_least=1)
        if self.normalise_advantages and self.num_envs * self.num_steps < 2:
            raise ValueError(
                "num_envs and num_steps are 1; normalised advantages need rollouts of at least 2 steps: raise num_steps, or "
                "turn normalise_advantages off"
            )
        if self.num_envs % self.minibatches:
            raise ValueError(
                f"minibatches is {self.minibatches}; it must divide num_envs = {self.num_envs}, since rows stay whole"
            )
        check_fields(self, ("gamma", "gae_lambda", "noise_correlation"), at_least=0, at_most=1)
        check_fields(self, ("adam_epsilon", "value_coefficient", "entropy_coefficient", "kl_coefficient"), at_least=0)
        check_fields(self, ("learning_rate", "memory_rate", "clip", "value_clip", "value_loss_cap", "max_grad_norm"), above=0)
        check_fields(self, ("kl_stop", "step_kl_stop", "kl_target"), above=0)


class PPO:
    """A policy, its environments and its optimiser. `iterate` is one round of acting and learning. If several processes train
    together, each acts in its share of the environments and learns from its share of every minibatch.

        L = -min(r A, clip(r, 1 - c, 1 + c) A) + w_v ((V - R) / s)^2 - w_e H        r = pi(a) / pi_old(a)

    A: normalised advantages; R: the advantages before normalisation plus the values estimated while acting; s: the standard
    deviation of R; H: entropy.

    Args:
        policy: the policy, on its device.
        env: the environments of this process.
        config: options; num_envs is the total over all processes.
        total_steps: environment steps of the whole run, for the learning-rate schedule.
    """

    def __init__(self, policy: ActorCritic, env: VectorEnvironment, config: PPOConfig, total_steps: int) -> None:
        self.policy, self.config, self.total_steps, self.step = policy, config, total_steps, 0
        device = next(policy.parameters()).device
        self.actor = actor(policy, env, config.noise_correlation)
        self.rollout = Rollout.empty(policy, env, config.num_steps, device)
        self.optimiser = adam(policy, config.learning_rate, config.memory_rate, config.adam_epsilon)
        self.kl_coefficient = config.kl_coefficient
        self.annealing = 1.0
        self.episode_stats = EpisodeStats(config.num_envs)

    must_save = False  # checkpoints hold the whole state, so one is never required between two iterations
    own: tuple[str, ...] = ("actor",)

    def iterate(self, on_step: Callable[[int], None] | None = None) -> dict[str, float]:
        """Act for one rollout, learn from it, and return metrics; `on_step` is called with the environment steps so far."""
        config = self.config
        if config.schedule == "linear":
            self.annealing = max(0.0, 1 - self.step / self.total_steps)
            set_learning_rate(self.optimiser, config.learning_rate * self.annealing)

        def report(steps: int) -> None:
            if on_step is not None:
                on_step(self.step + steps * distributed.size())

        if self.policy.normaliser.unknown:
            first = min(_FIRST_STATISTICS, config.num_steps)
            self.policy.normaliser.update(self.actor.play_at_random(first, report))
            self.step += config.num_envs * first
        metrics = self.episode_stats.update(self.actor.collect(self.rollout, config.gamma, report))
        self.step += config.num_envs * config.num_steps
        metrics |= self._learn()
        if self.step <= _STATISTICS_UNTIL * self.total_steps:
            self.policy.normaliser.update(self.rollout.obs)
        return metrics

    def _learn(self) -> dict[str, float]:
        rollout, config = self.rollout, self.config
        advantage = advantages(rollout, config.gamma, config.gae_lambda)
        target = advantage + rollout.value
        everyones = distributed.stacked(advantage)
        explained = 1 - everyones.var() / distributed.stacked(target).var()
        self.policy.value.update(target)
        if config.normalise_advantages:
            advantage = (advantage - everyones.mean()) / (everyones.std() + 1e-8 * self.policy.value.deviation)
        all_terms: list[dict[str, Tensor]] = []
        for _ in range(config.epochs):
            for rows in torch.randperm(len(advantage), device=advantage.device).chunk(config.minibatches):
                with fast_products():
                    again = partial(self._loss, rows, advantage[rows], target[rows])
                    loss, terms = again()
                    if not loss.isfinite():
                        data = {"observations": rollout.obs[rows], "rewards": rollout.reward[rows]}
                        data["value targets"] = target[rows]
                        raise not_finite(self.step, terms, {"policy": self.policy}, data, again)
                    if config.kl_stop is not None and distributed.mean(terms["kl"]) > config.kl_stop:
                        return self._summary(all_terms or [terms]) | {"explained_variance": explained.item()}
                    if config.step_kl_stop is not None and distributed.mean(terms["step_kl"]) > config.step_kl_stop:
                        break
                    norm = gradient_step(loss, self.optimiser, self.policy, config.max_grad_norm)
                if norm is not None:
                    terms["gradient_norm"] = norm
                all_terms.append(terms)
        return self._summary(all_terms) | {"explained_variance": explained.item()}

    def _loss(self, rows: Tensor, advantage: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        rollout, config, head = self.rollout, self.config, self.policy.head
        state = {name: leaf[rows] for name, leaf in rollout.state.items()}
        parameters, value, _ = self.policy(rollout.obs[rows], state, rollout.start[rows])
        log_ratio = head.log_prob(parameters, rollout.action[rows]) - rollout.log_prob[rows]
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        policy_loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
        # an unbiased estimate of KL(old, new), whose gradient is unbiased too (Schulman, "Approximating KL divergence", k3)
        kl_of_steps = ratio - 1 - log_ratio
        kl = kl_of_steps.mean()
        error, unit = value - target, self.policy.value.deviation
        if config.value_clip is not None:
            old, most = rollout.value[rows], config.value_clip * unit
            near = old + (value - old).clamp(-most, most)
            error = torch.maximum(error.abs(), (near - target).abs())
        error = (error / unit).square()
        if config.value_loss_cap is not None:
            error = error.clamp(max=config.value_loss_cap)
        entropy = head.entropy(parameters).mean()
        loss = policy_loss + config.value_coefficient * error.mean() - self.annealing * config.entropy_coefficient * entropy
        if self.kl_coefficient > 0:
            loss = loss + self.kl_coefficient * kl
        terms = {"policy_loss": policy_loss, "value_loss": error.mean(), "entropy": entropy, "kl": kl}
        terms["step_kl"] = kl_of_steps.amax(dim=1).mean()
        terms["clip_fraction"] = ((ratio - 1).abs() > config.clip).float().mean()
        terms["ratio_error"] = (ratio - 1).abs().max()
        return loss, {name: term.detach() for name, term in terms.items()}

    def _summary(self, all_terms: list[dict[str, Tensor]]) -> dict[str, float]:
        """Mean terms over gradient steps and processes, and the largest ratio error before the first gradient step; also adapt
        the weight of the KL penalty."""
        summary = mean_terms(all_terms)
        summary["ratio_error"] = distributed.stacked(all_terms[0]["ratio_error"]).max().item()
        if self.config.kl_coefficient > 0:
            last_epoch = [terms["kl"] for terms in all_terms[-self.config.minibatches :]]
            moved = distributed.mean(torch.stack(last_epoch).mean()).item()
            if moved > 2 * self.config.kl_target:
                self.kl_coefficient *= 1.5
            elif moved < 0.5 * self.config.kl_target:
                self.kl_coefficient *= 0.5
            summary["kl_coefficient"] = self.kl_coefficient
        return summary

    def state_dict(self) -> dict[str, Any]:
        """The state that `load_state_dict` continues from: weights, optimiser, counters, environments."""
        return {
            "step": self.step,
            "policy": self.policy.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "kl_coefficient": self.kl_coefficient,
            "returns": list(self.episode_stats.returns),
            "actor": self.actor.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.step, self.kl_coefficient = saved["step"], saved["kl_coefficient"]
        self.policy.load_state_dict(saved["policy"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.episode_stats.returns.extend(saved["returns"])
        if "actor" in saved:
            self.actor.load_state_dict(saved["actor"])

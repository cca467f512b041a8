"""Acting in several groups of environments, which do not wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..envs import VectorEnvironment
from ..envs.vector import Episode, first_answered
from ..networks import ActorCritic
from .random_state import random_state, set_random_state
from .rollout import Actor, Rollout, play_at_random


def actor(policy: ActorCritic, env: VectorEnvironment, noise_correlation: float = 0.0) -> Actor | Turns:
    """An `Actor` in `env`; if there are several groups of it, one in each of them."""
    if len(env.groups) == 1:
        return Actor(policy, env, noise_correlation)
    return Turns(policy, env.groups, noise_correlation)


class Turns:
    """An `Actor` in each of several groups of environments. It is a group's turn when its environments have answered, and of
    those that have answered, it is that of the one which has waited longest. While the policy acts in one group, the other
    environments step.

    Every group has a stream of random numbers of its own, so that a rollout does not depend on which of them answers first.

    Args:
        policy: the policy that plays.
        envs: groups of the same number of environments.
        noise_correlation: see `Actor`.
    """

    def __init__(self, policy: ActorCritic, envs: Sequence[VectorEnvironment], noise_correlation: float) -> None:
        self.actors = [Actor(policy, env, noise_correlation) for env in envs]
        self._random = [_new_stream() for _ in envs]

    def play_at_random(self, num_steps: int, on_step: Callable[[int], None] | None = None) -> Tensor:
        """See `Actor`."""
        return play_at_random(self.actors, num_steps, on_step)

    def collect(self, rollout: Rollout, gamma: float, on_step: Callable[[int], None] | None = None) -> list[Episode]:
        """See `Actor`."""
        B = self.actors[0].env.num_envs
        parts = [rollout.part(slice(i * B, (i + 1) * B)) for i in range(len(self.actors))]
        episodes: list[list[Episode]] = [[] for _ in self.actors]
        playing = [actor.play(part, gamma, ended) for actor, part, ended in zip(self.actors, parts, episodes, strict=True)]
        steps = [self._go_on(playing, number) for number in range(len(playing))]
        waiting = list(range(len(playing)))
        while waiting:
            number = waiting.pop(first_answered([self.actors[number].env for number in waiting]))
            steps[number] = self._go_on(playing, number)
            if steps[number] < parts[number].reward.numel():
                waiting.append(number)
            if on_step is not None:
                on_step(sum(steps))
        rollout.state = {name: torch.cat([part.state[name] for part in parts]) for name in parts[0].state}
        return [episode for ended in episodes for episode in ended]

    def _go_on(self, playing: Sequence[Iterator[int]], number: int) -> int:
        """Let a group's actor take its turn; the environment steps of the group so far."""
        with self._stream(number):
            return next(playing[number])

    @contextmanager
    def _stream(self, number: int) -> Iterator[None]:
        """A context in which random numbers come from a group's own stream."""
        before = random_state()
        set_random_state(self._random[number])
        try:
            yield
        finally:
            self._random[number] = random_state()
            set_random_state(before)

    def state_dict(self) -> dict[str, Any]:
        """See `Player`."""
        return {"groups": [actor.state_dict() for actor in self.actors], "random": self._random}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """See `Player`."""
        for actor, state in zip(self.actors, saved["groups"], strict=True):
            actor.load_state_dict(state)
        self._random = saved["random"]


def _new_stream() -> list[Tensor]:
    """The beginning of a new stream of random numbers, drawn from the global generator."""
    seed, before = int(torch.randint(2**62, ())), random_state()
    torch.manual_seed(seed)
    stream = random_state()
    set_random_state(before)
    return stream

"""A policy with SHM under torch.compile: its speed, and how far its numbers differ from those of eager mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..agents.making import make_environment, make_policy
from ..measure import median_seconds
from ..recipes.presets import preset_config


@dataclass(frozen=True)
class Row:
    """Measurements of a policy, "eager" or "compiled": milliseconds forward and backward, how many times as fast as the eager
    policy it is, and the largest difference of its outputs and gradients from those of the eager policy."""

    policy: str
    forward_backward_ms: float
    times_faster: float
    largest_difference: float


def measure_all(on_progress: Callable[[str], None]) -> list[Row]:
    """Measure forward and backward over 8 rows of 128 steps, eager and compiled by inductor (which needs a C++ compiler)."""
    config = preset_config("fast", "popgym-RepeatPreviousEasy-v0", "shm")
    env = make_environment(config, 8, 0)
    policy = make_policy(config, env)
    obs, start = torch.randn(8, 128, env.layout.size), torch.rand(8, 128) < 1 / 51
    state, parameters = policy.initial_state(8), list(policy.parameters())
    env.close()

    def run(function: Callable[..., Any]) -> list[Tensor]:
        logits, value, _ = function(obs, state, start)
        loss = logits.square().mean() + value.square().mean()
        return [logits, value, *torch.autograd.grad(loss, parameters, allow_unused=True)]

    rows = list[Row]()
    want = list[Tensor]()
    for name, function in (("eager", policy), ("compiled", torch.compile(policy))):
        on_progress(f"{name} policy")
        results = [x for x in run(function) if x is not None]
        ms = 1e3 * median_seconds(lambda function=function: run(function))  # type: ignore[misc]
        want = want or results
        difference = max((x - y).abs().max().item() for x, y in zip(results, want, strict=True))
        rows.append(Row(name, ms, (rows[0].forward_backward_ms if rows else ms) / ms, difference))
    return rows

"""Products of matrices in bfloat16, which GPUs compute faster than those in float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..memory import State

Precision = Literal["float32", "bfloat16"]


class Narrowed(nn.Module):
    """A part of a network with features that can be computed in another precision, see `narrowed`.

    Attributes:
        precision: the number format of products of matrices. Weights, states, sums and the results stay float32.
    """

    precision: Precision = "float32"


def narrowed(features: Callable[..., tuple[Tensor, State]]) -> Callable[..., tuple[Tensor, State]]:
    """A method of a `Narrowed` that computes features of observations and a state, in its precision."""

    @wraps(features)
    def compute(self: Narrowed, obs: Tensor, *rest: Any) -> tuple[Tensor, State]:
        if self.precision == "float32":
            return features(self, obs, *rest)
        with torch.autocast(obs.device.type, torch.bfloat16):
            x, state = features(self, obs, *rest)
        return x.float(), state

    return compute


def set_precision(network: nn.Module, precision: Precision) -> None:
    """Set the precision of the encoder and the memory of a policy or critic; its heads always compute in float32."""
    for part in network.modules():
        if isinstance(part, Narrowed):
            part.precision = precision

"""Action distributions, as functions of one flat parameter vector. K: how many numbers one action has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from ..envs import Layout
from ..envs.actions import action_counts, action_parts

_ILLEGAL = -1e9  # logit of illegal actions: so low that the probability is 0, but no result becomes infinite


class Categorical(nn.Module):
    """Independent categorical distributions, one for each entry of `counts`: Discrete and MultiDiscrete spaces."""

    action_dtype = torch.int64
    continuous = False

    def __init__(self, counts: list[int]) -> None:
        super().__init__()
        self.counts, self.size, self.action_size = counts, sum(counts), len(counts)

    def _log_probs(self, parameters: Tensor) -> list[Tensor]:
        return [torch.log_softmax(logits, dim=-1) for logits in parameters.split(self.counts, dim=-1)]

    def sample(self, parameters: Tensor, noise: Tensor | None = None) -> Tensor:
        """Random actions (..., K): the largest logits after adding Gumbel noise. `noise` is only for continuous actions."""
        noisy = parameters - torch.empty_like(parameters).exponential_().log()
        return self.mode(noisy)

    def mode(self, parameters: Tensor) -> Tensor:
        """The most likely actions (..., K)."""
        if len(self.counts) == 1:
            return parameters.argmax(dim=-1, keepdim=True)
        return torch.stack([logits.argmax(dim=-1) for logits in parameters.split(self.counts, dim=-1)], dim=-1)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """Log-probability (...,) of actions (..., K)."""
        parts = [
            log_probs.gather(-1, action[..., i : i + 1].long()).squeeze(-1)
            for i, log_probs in enumerate(self._log_probs(parameters))
        ]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    def entropy(self, parameters: Tensor) -> Tensor:
        """Entropy (...,) in nats."""
        parts = [-(log_probs.exp() * log_probs).sum(-1) for log_probs in self._log_probs(parameters)]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


class Gaussian(nn.Module):
    """A diagonal normal distribution clipped to the bounds of a Box space. Actions are in the units of the space.

    Means and standard deviations are in units of half the width of each range, so that a network output of +-1 reaches the
    bounds. The standard deviation is a separate learned parameter. The probability mass beyond a bound falls on the bound, and
    the log-probability of an action at a bound is that of this mass (Fujita and Maeda, 2018, arXiv:1802.07564).
    """

    action_dtype = torch.float32
    continuous = True
    centre: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.size = self.action_size = math.prod(space.shape)
        centre, scale = _centre_and_scale(space)
        bounded = scale.isfinite()
        self.register_buffer("centre", torch.where(bounded, centre, 0))
        self.register_buffer("scale", torch.where(bounded, scale, 1))
        self.register_buffer("low", torch.as_tensor(space.low, dtype=torch.float32).flatten(), persistent=False)
        self.register_buffer("high", torch.as_tensor(space.high, dtype=torch.float32).flatten(), persistent=False)
        self.log_std = nn.Parameter(torch.zeros(self.size))

    def sample(self, parameters: Tensor, noise: Tensor | None = None) -> Tensor:
        """Random actions (..., K); `noise` (..., K), if given, replaces the standard normal draws."""
        noise = torch.randn_like(parameters) if noise is None else noise
        return self.mode(parameters + noise * self.log_std.exp())

    def mode(self, parameters: Tensor) -> Tensor:
        """The most likely actions (..., K)."""
        return (self.centre + self.scale * parameters).clamp(self.low, self.high)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """Log-density (...,) of actions (..., K); for actions at a bound the log-probability.

        The constant for the scaling to the environment's units is left out, since it cancels in gradients and ratios.
        """
        z = ((action - self.centre) / self.scale - parameters) * torch.exp(-self.log_std)
        inside = -0.5 * z.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        side = (action <= self.low).float() - (action >= self.high).float()
        log_prob = torch.where(side == 0, inside, torch.special.log_ndtr(side * z))
        return torch.where(self.low < self.high, log_prob, 0).sum(-1)  # a range of one value has one action, which is certain

    def entropy(self, parameters: Tensor) -> Tensor:
        """Entropy (...,) in nats of the normal distribution before it is clipped."""
        entropy = (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
        return entropy.expand(parameters.shape[:-1])


class Product(nn.Module):
    """Independent distributions of the parts of a Tuple or Dict action, with parameters and numbers side by side."""

    action_dtype = torch.float32

    def __init__(self, parts: Sequence[Categorical | Gaussian]) -> None:
        super().__init__()
        self.parts: Sequence[Categorical | Gaussian] = nn.ModuleList(parts)  # type: ignore[assignment]
        self._sizes = [part.size for part in parts]
        self._widths = [part.action_size for part in parts]
        self.size, self.action_size = sum(self._sizes), sum(self._widths)
        self.continuous = any(part.continuous for part in parts)

    def sample(self, parameters: Tensor, noise: Tensor | None = None) -> Tensor:
        """Random actions (..., K); `noise` (..., K), if given, replaces the standard normal draws of continuous actions."""
        own_noise = [None] * len(self.parts) if noise is None else noise.split(self._widths, dim=-1)
        draws = [part.sample(p, n) for part, p, n in zip(self.parts, self._split(parameters), own_noise, strict=True)]
        return torch.cat([draw.float() for draw in draws], dim=-1)

    def mode(self, parameters: Tensor) -> Tensor:
        """The most likely actions (..., K)."""
        modes = [part.mode(p) for part, p in zip(self.parts, self._split(parameters), strict=True)]
        return torch.cat([mode.float() for mode in modes], dim=-1)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """The sum of the parts' log-probabilities (...,) of actions (..., K)."""
        actions = action.split(self._widths, dim=-1)
        parts = zip(self.parts, self._split(parameters), actions, strict=True)
        return torch.stack([part.log_prob(p, a) for part, p, a in parts]).sum(0)

    def entropy(self, parameters: Tensor) -> Tensor:
        """The sum of the parts' entropies (...,) in nats."""
        return torch.stack([part.entropy(p) for part, p in zip(self.parts, self._split(parameters), strict=True)]).sum(0)

    def _split(self, parameters: Tensor) -> Sequence[Tensor]:
        return parameters.split(self._sizes, dim=-1)


class LegalActions(nn.Module):
    """Gives illegal actions, by the mask in an observation, the probability and gradient 0 (Huang and Ontañón, 2022).

    If a mask is zero for all choices (as in the last observation of an episode, when no action follows), all count as legal.

    Args:
        layout: layout of the observations. Without a mask in it, parameters are passed on unchanged.
        head: the distribution to which the parameters belong.
    """

    logits: Tensor

    def __init__(self, layout: Layout, head: Categorical | Gaussian | Product | SquashedGaussian) -> None:
        super().__init__()
        self.mask = layout.mask
        columns, self.counts, first = list[int](), list[int](), 0
        parts: Sequence[Categorical | Gaussian | SquashedGaussian] = head.parts if isinstance(head, Product) else [head]
        for part in parts:
            if isinstance(part, Categorical):
                columns += range(first, first + part.size)
                self.counts += part.counts
            first += part.size
        self.all_logits = len(columns) == first
        self.register_buffer("logits", torch.tensor(columns, dtype=torch.int64), persistent=False)

    def forward(self, parameters: Tensor, obs: Tensor) -> Tensor:
        """Parameters (..., P) and whole rows of observations (..., D) -> parameters (..., P)."""
        if self.mask is None:
            return parameters
        illegal = ~self.legal(obs)
        if not self.all_logits:
            everything = torch.zeros_like(parameters, dtype=torch.bool)
            everything[..., self.logits] = illegal
            illegal = everything
        return parameters.masked_fill(illegal, _ILLEGAL)

    def legal(self, obs: Tensor) -> Tensor:
        """Which logits belong to legal actions: observations (..., D) -> (..., number of logits) bool."""
        assert self.mask is not None
        groups = (obs[..., self.mask.columns] > 0).split(self.counts, dim=-1)
        return torch.cat([group | ~group.any(-1, keepdim=True) for group in groups], dim=-1)


class SquashedGaussian(nn.Module):
    """A diagonal normal distribution squashed by tanh into the bounds of a Box space (Haarnoja et al., 2018, Appendix C).

    Its parameters are means, then log standard deviations, which are clamped to [-20, 2]. Densities are those of the action
    scaled to -1 to 1, so that entropies do not depend on the bounds.
    """

    action_dtype = torch.float32
    centre: Tensor
    scale: Tensor

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        centre, scale = _centre_and_scale(space)
        if not (np.isfinite(space.low) & np.isfinite(space.high)).all() or not scale.isfinite().all():
            raise ValueError(f"action space {space} has no finite bounds, into which SAC could squash its actions")
        self.action_size = math.prod(space.shape)
        self.size = 2 * self.action_size
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)

    def draw(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Random actions between -1 and 1 (..., K), with a gradient, and their log-densities (...,)."""
        mean, log_std = parameters.chunk(2, dim=-1)
        log_std = log_std.clamp(-20, 2)
        noise = torch.randn_like(mean)
        z = mean + noise * log_std.exp()
        # log (1 - tanh(z)^2), in a form without cancellation
        log_slope = 2 * (math.log(2) - z - F.softplus(-2 * z))
        log_prob = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi) - log_slope
        return z.tanh(), log_prob.sum(-1)

    def sample(self, parameters: Tensor) -> Tensor:
        """Random actions (..., K), in the environment's units."""
        return self.centre + self.scale * self.draw(parameters)[0]

    def mode(self, parameters: Tensor) -> Tensor:
        """The actions (..., K) of the means, in the environment's units."""
        return self.centre + self.scale * parameters.chunk(2, dim=-1)[0].tanh()

    def normalise(self, action: Tensor) -> Tensor:
        """Convert actions from the environment's units to the range -1 to 1."""
        return (action - self.centre) / self.scale


def _centre_and_scale(space: spaces.Box) -> tuple[Tensor, Tensor]:
    """The middle and half the width of each range of a Box, (K,); not finite for ranges without bounds.

    A range of a single value has the scale 1, to avoid a division by 0. A range with only one bound has the scale 1, too, and
    its centre is 1 from that bound. The largest float32 does not count as a bound.
    """
    largest = torch.finfo(torch.float32).max
    low = torch.as_tensor(space.low.astype("float64")).flatten()
    high = torch.as_tensor(space.high.astype("float64")).flatten()
    bounded_below, bounded_above = low > -largest, high < largest
    middle = torch.where(bounded_below & bounded_above, (low + high) / 2, torch.nan)
    middle = torch.where(bounded_below & ~bounded_above, low + 1, middle)
    middle = torch.where(bounded_above & ~bounded_below, high - 1, middle)
    scale = torch.where(low == high, 1, torch.where(bounded_below & bounded_above, (high - low) / 2, 1.0))
    scale = torch.where(bounded_below | bounded_above, scale, torch.inf)
    return middle.float(), scale.float()


def make_head(space: spaces.Space[Any]) -> Categorical | Gaussian | Product:
    """The distribution for an action space: Discrete, MultiDiscrete, MultiBinary, Box, and Tuple and Dict of these.

    Raises:
        ValueError: the action space is of any other kind.
    """
    parts = [
        Gaussian(part) if isinstance(part, spaces.Box) else Categorical(action_counts(part)) for part in action_parts(space)
    ]
    return Product(parts) if isinstance(space, (spaces.Tuple, spaces.Dict)) else parts[0]

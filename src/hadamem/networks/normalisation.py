"""Running statistics inside a network, so that observations and rewards need not be scaled by hand.

The statistics are buffers: they are saved and exported with the weights, and changed only by `update`, which learning
algorithms call between rollouts. So a rollout and the updates on it use the same statistics. They are exact under powers of
two: observations or rewards multiplied by 2^k give the same run. If several processes train together, the statistics cover the
data of all processes.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..distributed import stacked
from ..envs import Layout

_LIMIT = 10.0  # standard deviations from the mean to which values are clipped
_RATE = 0.1  # weight of the latest targets in the statistics of values


class Rows(Protocol):
    """An object that can be indexed like a tensor, and then returns a tensor."""

    def __getitem__(self, index: Any, /) -> Tensor: ...


class Moments(nn.Module):
    """Running mean and standard deviation of quantities, by the parallel form of Welford's algorithm (Chan et al., 1983).

    Args:
        size: number of quantities.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        for name in ("count", "mean", "squares"):  # squares: sums of squared distances from the mean
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))

    def update(self, x: Tensor, quantity: Tensor) -> None:
        """Add the data x (N, C), whose column c belongs to the quantity `quantity[c]`."""
        zeros = torch.zeros_like(self.mean)
        count = len(x) * zeros.index_add(0, quantity, torch.ones_like(quantity, dtype=torch.float64))
        mean = zeros.index_add(0, quantity, x.sum(0)) / count
        squares = zeros.index_add(0, quantity, (x - mean[quantity]).square().sum(0))
        for part in stacked(torch.stack([count, mean, squares])):
            self._merge(*part)

    def _merge(self, count: Tensor, mean: Tensor, squares: Tensor) -> None:
        total, distance = self.count + count, mean - self.mean
        self.squares += squares + distance.square() * self.count * count / total
        self.mean += distance * count / total
        self.count.copy_(total)

    def deviation(self) -> Tensor:
        """Standard deviations (size,); 1 for quantities that have not varied beyond rounding errors."""
        deviation = (self.squares / self.count.clamp(min=1)).sqrt()
        return torch.where(deviation > 1e-6 * self.mean.abs(), deviation, 1)


class ObservationNormaliser(nn.Module):
    """(x - mean) / deviation, clipped to +-10, for the columns of measured leaves; other columns are passed on unchanged.

    Args:
        layout: layout of the observation. Every column of a measured vector has its own statistics, and so has every channel of
            a measured image.
        enabled: if false, all columns are passed on unchanged.
    """

    columns: Tensor
    quantity: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, layout: Layout, enabled: bool = True) -> None:
        super().__init__()
        columns, quantities, first = list[int](), list[int](), 0
        for leaf in layout.leaves if enabled else ():
            if leaf.measured:
                repeats = leaf.size // leaf.shape[0]
                columns += range(leaf.offset, leaf.offset + leaf.size)
                quantities += [first + i // repeats for i in range(leaf.size)]
                first += leaf.shape[0]
        self.moments = Moments(first)
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)
        self.register_buffer("quantity", torch.tensor(quantities, dtype=torch.int64), persistent=False)
        self.register_buffer("shift", torch.zeros(layout.size), persistent=False)
        self.register_buffer("scale", torch.ones(layout.size), persistent=False)
        self.register_load_state_dict_post_hook(lambda module, _: module._refresh())

    @property
    def active(self) -> bool:
        """Whether any column has statistics."""
        return len(self.columns) > 0

    @property
    def unknown(self) -> bool:
        """Whether there are columns with statistics, but `update` has not been called yet."""
        return self.active and not self.moments.count.any()

    def forward(self, obs: Tensor) -> Tensor:
        """Normalise observations: (..., D) -> (..., D)."""
        if not self.active:
            return obs
        return ((obs - self.shift) * self.scale).clamp(-_LIMIT, _LIMIT)

    @torch.no_grad()
    def update(self, obs: Rows) -> None:
        """Add observations (..., D), a tensor or an object that is indexed like one, to the statistics."""
        if self.active:
            self.moments.update(obs[..., self.columns].flatten(0, -2).double(), self.quantity)
            self._refresh()

    def _refresh(self) -> None:
        """Compute the float32 numbers that `forward` uses."""
        self.shift[self.columns] = self.moments.mean[self.quantity].to(self.shift.dtype)
        self.scale[self.columns] = (1 / self.moments.deviation())[self.quantity].to(self.scale.dtype)


class RewardScale(nn.Module):
    """The divisor of rewards: the running standard deviation of the discounted sum of past rewards, over B environments.

        R_t = r_t + gamma R_{t-1}, 0 before the first step of an episode

    Args:
        num_envs: B.
        gamma: discount per step.
        enabled: if false, rewards are divided by 1.
    """

    running: Tensor

    def __init__(self, num_envs: int, gamma: float, enabled: bool = True) -> None:
        super().__init__()
        self.gamma, self.enabled, self.moments = gamma, enabled, Moments(1)
        self.register_buffer("running", torch.zeros(num_envs, dtype=torch.float64), persistent=False)

    @property
    def deviation(self) -> float:
        """Standard deviation of the discounted sums; 1 before the first update."""
        return self.moments.deviation().item() if self.enabled else 1.0

    @torch.no_grad()
    def update(self, reward: Tensor, end: Tensor) -> None:
        """Add rewards (B, T) to the statistics; `end` (B, T) bool, whether the episode ended with this step."""
        sums = []
        for r, ended in zip(reward.double().unbind(1), end.unbind(1), strict=True):
            self.running = r + self.gamma * self.running
            sums.append(self.running)
            self.running = torch.where(ended, 0, self.running)
        x = torch.stack(sums).flatten()[:, None]
        self.moments.update(x, torch.zeros(1, dtype=torch.int64, device=x.device))


class ValueHead(nn.Module):
    """The last layer of a critic: values in the units of rewards, learned in units of the standard deviation of their targets.

        V = mean + deviation (w x + b)

    Before the first update all values are 0; the first update makes them the mean of the targets. Whenever the statistics
    change later, w and b are changed such that V stays the same (PopArt: van Hasselt et al., 2016, arXiv:1602.07714).

    Args:
        features: number of features of x.
        enabled: if false, the mean stays 0 and the deviation 1.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    average: Tensor
    square: Tensor

    def __init__(self, features: int, enabled: bool = True) -> None:
        super().__init__()
        self.enabled = enabled
        self.linear = nn.Linear(features, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))  # total weight of the averages so far
        self.register_buffer("average", torch.zeros((), dtype=torch.float64))
        self.register_buffer("square", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """The values: (..., features) -> (...)."""
        return self.mean + self.deviation * self.linear(x).squeeze(-1)

    @torch.no_grad()
    def update(self, targets: Tensor) -> None:
        """Add the targets of an update, of any shape, to the statistics."""
        if not self.enabled:
            return
        targets, known = stacked(targets).double(), bool(self.weight > 0)
        self.weight.lerp_(torch.ones_like(self.weight), _RATE)
        self.average.lerp_(targets.mean(), _RATE)
        self.square.lerp_(targets.square().mean(), _RATE)
        mean = self.average / self.weight
        deviation = (self.square / self.weight - mean.square()).clamp(min=0).sqrt()
        deviation = torch.where(deviation > 1e-6 * mean.abs(), deviation, mean.abs())
        deviation = torch.where(deviation > 0, deviation, 1)  # no reward so far
        if known:
            self.linear.weight *= self.deviation / deviation
            self.linear.bias.copy_((self.deviation * self.linear.bias + self.mean - mean) / deviation)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

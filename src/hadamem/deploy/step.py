"""A trained policy as a function of tensors: from raw observations and a state to an action and the next state.

It includes all conversions between the environment and the network: one-hot codes, the scaling of pictures, the normaliser,
masks, the previous action, and the bounds and `start` of actions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ..checks import check_number
from ..envs.interface import Interface
from ..envs.layout import Encoder
from ..memory import State
from ..networks import Policy
from ..networks.heads import Categorical, Gaussian, Product, SquashedGaussian
from .real import with_real_memories

PREVIOUS = "previous_action"  # leaf of the state (or input) with the previous action, as columns of the network's input


class Field(NamedTuple):
    """An input or output: its name, its shape without the batch, and its dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


class Step(nn.Module):
    """inputs -> outputs, tensors (N, ...) in the order of `inputs` and `outputs`, for any N.

    Inputs: "obs" or "obs.KEY" for the leaves of an observation, in the types of their spaces; "reward" (of the previous step)
    and "mask" (true for each legal choice) for policies that were trained with them; "start" (bool: the first step of an
    episode, at which the state is ignored); "state.NAME" for the leaves of the state. Where `start` is true, the leaves may be
    zeros.

    Outputs: "action" or "action.KEY", the most likely action as the environment takes it; for each part of the action the
    parameters of its distribution, which are "logits" (-1e9 for illegal choices), or "mean" and "std" of a normal distribution,
    which is clipped to the bounds (PPO) or squashed into them by tanh (SAC: mean and std before squashing); "new_state.NAME".

    With `length`, it is a whole sequence: inputs and outputs are (N, length, ...), except the state, which is the one before
    and after all steps. The previous actions are then an input, "previous_action", with the columns that a single step puts
    into its state.

    Args:
        policy: the policy, which is copied.
        interface: interface to the policy's environment.
        length: T, steps of a sequence; None: a single step, without a time axis.
    """

    def __init__(self, policy: Policy, interface: Interface, length: int | None = None) -> None:
        super().__init__()
        check_number("length", length, at_least=1)
        self.length = length
        self.policy = copy.deepcopy(policy).cpu().eval()
        with_real_memories(self.policy)
        self.interface = interface
        state = self.policy.initial_state(1)
        if wrong := [name for name, leaf in state.items() if leaf.is_complex()]:
            raise ValueError(f"the state has complex numbers ({', '.join(wrong)}), which other runtimes do not know")
        self.state_names = list(state)
        self.observation = _Rows(interface.observation, "obs", interface.channels) if "obs" in interface.inputs else None
        self.previous = _Rows(interface.action, "action", None) if "action" in interface.inputs else None
        self.actions = _EnvironmentActions(self.policy.head, interface)
        fields = list(self.observation.fields) if self.observation else []
        if interface.reward:
            fields.append(Field("reward", (), torch.float32))
        if interface.mask != "none":
            fields.append(Field("mask", (sum(interface.actions.counts),), torch.bool))
        fields.append(Field("start", (), torch.bool))
        states = [Field(f"state.{name}", tuple(leaf.shape[1:]), leaf.dtype) for name, leaf in state.items()]
        self.previous_name = PREVIOUS if length is not None else f"state.{PREVIOUS}"
        if self.previous:
            previous = Field(self.previous_name, (self.previous.size,), torch.float32)
            (states if length is None else fields).append(previous)
        if length is not None:
            fields = [Field(name, (length, *shape), dtype) for name, shape, dtype in fields]
        self.inputs = [*fields, *states]
        self.outputs = [*self.actions.names, *(f"new_{field.name}" for field in states)]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        inputs = {field.name: tensor for field, tensor in zip(self.inputs, tensors, strict=True)}
        state: State = {name: inputs[f"state.{name}"] for name in self.state_names}
        if self.length is not None:
            inputs = {name: x if name.startswith("state.") else x.flatten(0, 1) for name, x in inputs.items()}
        start = inputs["start"]
        columns = self.observation.columns(inputs) if self.observation else []
        if "mask" in inputs:
            columns.append(self._mask(inputs["mask"]))
        if self.previous:
            columns.append(torch.where(start[:, None], 0, inputs[self.previous_name]))
        if "reward" in inputs:
            columns.append(torch.where(start, 0, inputs["reward"])[:, None])
        rows = torch.cat(columns, dim=-1) if len(columns) > 1 else columns[0]
        parameters, after = self.policy.distribution(self._by_row(rows), state, self._by_row(start))
        own, outputs = self.actions(parameters.flatten(0, 1))
        leaves = [after[name] for name in self.state_names]
        if self.length is not None:
            return (*(self._by_row(output) for output in outputs), *leaves)
        if self.previous:
            leaves.append(torch.cat(self.previous.columns(own), dim=-1))
        return (*outputs, *leaves)

    def _by_row(self, x: Tensor) -> Tensor:
        """(N * T, ...) -> (N, T, ...)."""
        return x[:, None] if self.length is None else x.unflatten(0, (-1, self.length))

    def _mask(self, mask: Tensor) -> Tensor:
        """Convert a mask of the environment's choices to the agent's mask columns."""
        groups = mask.float().split(self.interface.actions.counts, dim=-1)
        if not self.interface.joint_actions:
            return torch.cat(groups, dim=-1)
        joint = groups[0]
        for group in groups[1:]:
            joint = (joint[:, :, None] * group[:, None, :]).flatten(1)
        return joint


class _Rows(nn.Module):
    """`Encoder` in torch: leaves of a space (N, ...) to columns (N, size)."""

    def __init__(self, space: spaces.Space[Any], name: str, channels: Any) -> None:
        super().__init__()
        encoder = Encoder(space, name, channels=channels)
        self.size = encoder.end
        self.parts, self.paths = encoder.sources, encoder.paths
        leaves = zip(encoder.leaves, self.parts, strict=True)
        self.fields = [Field(leaf.name, tuple(part.shape or ()), _dtype(part)) for leaf, (part, _) in leaves]
        for i, (part, _) in enumerate(self.parts):
            if isinstance(part, spaces.Discrete | spaces.MultiDiscrete):
                counts = np.atleast_1d(part.n if isinstance(part, spaces.Discrete) else part.nvec).ravel().tolist()
                starts = np.broadcast_to(
                    part.start, (len(counts),) if isinstance(part, spaces.Discrete) else part.shape
                ).ravel()
                digit = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
                value = torch.cat([torch.arange(count) + int(start) for count, start in zip(counts, starts, strict=True)])
                self.register_buffer(f"digit{i}", digit, persistent=False)
                self.register_buffer(f"value{i}", value, persistent=False)

    def columns(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """The columns of each leaf."""
        return [self._columns(i, inputs[field.name]) for i, field in enumerate(self.fields)]

    def _columns(self, i: int, x: Tensor) -> Tensor:
        part, picture = self.parts[i]
        if isinstance(part, spaces.Discrete | spaces.MultiDiscrete):
            digits = x[:, None] if x.dim() == 1 else x.flatten(1)
            return (digits.long()[:, getattr(self, f"digit{i}")] == getattr(self, f"value{i}")).float()
        if picture is not None:
            x = x.movedim(-1, -3) if picture.channels_last else x
            return (x.float() * picture.scale).flatten(1)
        x = x.float()
        return x[:, None] if x.dim() == 1 else x.flatten(1)


class _EnvironmentActions(nn.Module):
    """From the parameters of a distribution to the environment's own actions, and the parameters needed to sample from it."""

    def __init__(self, head: Categorical | Gaussian | Product | SquashedGaussian, interface: Interface) -> None:
        super().__init__()
        self.heads = nn.ModuleList(head.parts if isinstance(head, Product) else [head])
        self.joint = interface.actions.counts if interface.joint_actions else None
        encoder = Encoder(interface.action, "action")
        self.parts = [(leaf.name, part) for leaf, (part, _) in zip(encoder.leaves, encoder.sources, strict=True)]
        self.sizes = [int(part.size) for part in self.heads]  # type: ignore[arg-type]
        self.names: list[str] = []
        for (name, _), part in zip(self.parts, self.heads, strict=True):
            kinds = ("logits",) if isinstance(part, Categorical) else ("mean", "std")
            self.names += [name, *(name.replace("action", kind, 1) for kind in kinds)]

    def forward(self, parameters: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """(N, P) -> actions by name, and all outputs in the order of `names`."""
        own, outputs = dict[str, Tensor](), list[Tensor]()
        parts = parameters.split(self.sizes, dim=-1)
        for (name, space), head, own_parameters in zip(self.parts, self.heads, parts, strict=True):
            own[name] = self._as_played(space, head.mode(own_parameters))  # type: ignore[operator]
            outputs += [own[name], *_distribution(head, own_parameters)]
        return own, outputs

    def _as_played(self, space: spaces.Space[Any], action: Tensor) -> Tensor:
        shape = space.shape or ()
        if isinstance(space, spaces.Box):
            low, high = (torch.as_tensor(bound.reshape(-1).astype(np.float64)) for bound in (space.low, space.high))
            if _dtype(space).is_floating_point:
                action = action.clamp(low.float(), high.float())
            else:
                action = torch.round(action.double()).clamp(low, high)
            return (action.unflatten(-1, shape) if shape else action[:, 0]).to(_dtype(space))
        if self.joint is not None:
            places = torch.tensor([int(np.prod(self.joint[i + 1 :])) for i in range(len(self.joint))])
            action = action // places % torch.tensor(self.joint)
        start = getattr(space, "start", 0)
        if isinstance(space, spaces.Discrete):
            return (action[:, 0] + int(start)).to(_dtype(space))
        action = action + torch.as_tensor(np.broadcast_to(start, shape).ravel().astype(np.int64))
        return action.unflatten(-1, shape).to(_dtype(space))


def _distribution(head: nn.Module, parameters: Tensor) -> Sequence[Tensor]:
    """The parameters to output: logits; or mean and standard deviation before clipping (in the environment's units) or
    squashing."""
    if isinstance(head, Gaussian):
        std = head.scale * head.log_std.exp()
        return head.centre + head.scale * parameters, std.expand_as(parameters)
    if isinstance(head, SquashedGaussian):
        mean, log_std = parameters.chunk(2, dim=-1)
        return mean, log_std.clamp(-20, 2).exp()
    return (parameters,)


def _dtype(space: spaces.Space[Any]) -> torch.dtype:
    return torch.from_numpy(np.zeros(1, space.dtype)).dtype

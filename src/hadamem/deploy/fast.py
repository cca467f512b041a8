"""One step of a policy without Python between its operators: it is recorded once by TorchScript, which then runs it."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ..memory import Memory, State
from ..networks import Policy
from ..ops.checks import plain_operators

_log = logging.getLogger("hadamem")


class _OneStep(nn.Module):
    def __init__(self, policy: Policy, names: list[str]) -> None:
        super().__init__()
        self.policy, self.names = policy, names

    def forward(self, obs: Tensor, start: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
        state = dict(zip(self.names, leaves, strict=True))
        parameters, state = self.policy.distribution(obs[:, None], state, start[:, None])
        parameters = parameters[:, 0]
        return self.policy.head.mode(parameters), parameters, *(state[name] for name in self.names)


class FastPolicy:
    """A faster `Policy.act` for a single row on the CPU.

    The policy itself is called if TorchScript is missing or gives other numbers, and also if a memory comes from another
    package, since its Python code may depend on the values of tensors, which a recording would not repeat.

    Args:
        policy: the policy, whose weights must not change from now on.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._run: Any = None
        self._names: list[str] = []
        self._tried = False

    def act(self, obs: Tensor, state: State, start: Tensor, greedy: bool) -> tuple[Tensor, State]:
        """See Policy."""
        if not self._tried:
            self._record(obs, state, start)
        if self._run is None or len(obs) != 1:
            return self.policy.act(obs, state, start, greedy)
        action, parameters, *leaves = self._run(obs, start, *[state[name] for name in self._names])
        if not greedy:
            action = self.policy.head.sample(parameters)
        return action, dict(zip(self._names, leaves, strict=True))

    def _record(self, obs: Tensor, state: State, start: Tensor) -> None:
        if len(obs) != 1 or obs.device.type != "cpu":
            return
        self._tried, names = True, list(state)
        memories = [module for module in self.policy.modules() if isinstance(module, Memory)]
        if any(type(memory).__module__.partition(".")[0] != "hadamem" for memory in memories):
            return
        example = obs, start, *state.values()
        try:
            with warnings.catch_warnings(), plain_operators():
                warnings.simplefilter("ignore")
                run = torch.jit.freeze(torch.jit.trace(_OneStep(self.policy, names).eval(), example, check_trace=False))
            for other in (start, ~start):
                wanted, wanted_state = self.policy.distribution(obs[:, None], state, other[:, None])
                _, got, *leaves = run(obs, other, *state.values())
                for mine, there in zip((got, *leaves), (wanted[:, 0], *(wanted_state[name] for name in names)), strict=True):
                    torch.testing.assert_close(mine, there, rtol=1e-4, atol=1e-4)
        except Exception as error:  # versions of torch fail in different ways
            _log.info("acting without TorchScript, which is slower, since it cannot record this policy: %s", error)
            return
        self._names = names
        self._run = run  # set last, since another thread may already read it

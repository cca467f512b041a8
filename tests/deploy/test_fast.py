"""A recorded step is the policy's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hadamem.bench import deploy
from hadamem.deploy.fast import FastPolicy
from hadamem.memory import MEMORIES, Memory
from hadamem.networks import Policy


def play(policy: Policy, fast: FastPolicy, steps: int = 25) -> None:
    torch.manual_seed(1)
    mine = state = policy.initial_state(1)
    with torch.inference_mode():
        for t in range(steps):
            obs, start = torch.randn(1, 4), torch.tensor([t % 9 == 0])
            action, mine = fast.act(obs, mine, start, True)
            wanted, state = policy.act(obs, state, start, True)
            assert torch.equal(action, wanted)
            for name, leaf in state.items():
                torch.testing.assert_close(mine[name], leaf, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("memory", MEMORIES)
def test_every_memory_is_recorded(memory: str) -> None:
    policy = deploy.untrained(memory).policy
    fast = FastPolicy(policy)
    play(policy, fast)
    assert fast._run is not None
    torch.manual_seed(2)
    state, obs, start = policy.initial_state(1), torch.randn(1, 4), torch.tensor([True])
    draws = []
    for player in (fast, policy):
        torch.manual_seed(3)
        draws.append([int(player.act(obs, state, start, False)[0]) for _ in range(20)])
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 2


def test_what_cannot_be_recorded_acts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = deploy.untrained("gru").policy
    fast = FastPolicy(policy)
    monkeypatch.setattr(torch.jit, "trace", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("gone")))
    play(policy, fast)
    assert fast._run is None

    fast = FastPolicy(policy)
    monkeypatch.setattr(torch.jit, "trace", lambda module, *_, **__: module)

    def wrong(module: Any) -> Any:
        def run(*inputs: Any) -> Any:
            action, parameters, *state = module(*inputs)
            return action, parameters + 0.1, *state

        return run

    monkeypatch.setattr(torch.jit, "freeze", wrong)
    play(policy, fast)
    assert fast._run is None


def test_a_memory_of_another_package_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(MEMORIES["gru"]):  # type: ignore[misc]
        pass

    assert issubclass(Other, Memory)
    monkeypatch.setitem(MEMORIES, "other", Other)
    policy = deploy.untrained("other").policy
    fast = FastPolicy(policy)
    play(policy, fast)
    assert fast._run is None


def test_what_the_benchmarks_measure() -> None:
    (acting,) = deploy.measure_act(["mlp"], str)
    assert acting.act_us > 0
    assert acting.forward_us > 0
    (exported,) = deploy.measure_export(["mlp"], str)
    assert isinstance(exported.onnx, float)
    assert exported.onnx < 1e-4
    assert exported.onnx_runtime_us
    (text,) = deploy.shown([exported])
    assert text["torch"][1:] in ("e+00", "e-08", "e-09", "e-07")

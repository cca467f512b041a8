"""The study of stability: what it measures, on its tiny budget, and on rows made up."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch

from hadamem.memory import SHM, make_memory
from hadamem.studies import inputs, stability


def test_products_are_those_of_the_calibration() -> None:
    """C itself, from theta and v_c, step by step."""
    torch.manual_seed(0)
    memory = SHM(6, 6, 4, theta="learned")
    x = torch.randn(3, 128, 6)
    logs = stability.log_products(memory, x)
    assert logs.shape == (3, 2, 16)
    *_, v_c, theta = memory.project(memory.norm(x)).double().split(memory.sizes, dim=-1)
    C = 1 + torch.tanh(theta[..., :, None] * v_c[..., None, :])
    expected = C.log().cumsum(dim=1)[:, [63, 127]].flatten(2).detach().numpy()
    np.testing.assert_allclose(logs, expected, rtol=1e-3, atol=1e-3)


def test_products_of_mlstm_are_those_of_its_forget_gate() -> None:
    torch.manual_seed(0)
    memory = make_memory("mlstm", 6, 6, 4)
    x = torch.randn(2, 128, 6)
    f = memory.project(memory.norm(x))[..., -1] + memory.gate_bias[1]
    expected = torch.nn.functional.logsigmoid(f).cumsum(dim=1)[:, [63, 127], None].expand(-1, -1, 16).detach().numpy()
    np.testing.assert_allclose(stability.log_products(memory, x), expected, rtol=1e-3, atol=1e-3)


def test_gradients_are_those_of_differences() -> None:
    torch.manual_seed(0)
    memory = SHM(5, 3, 4, theta="learned", feature_map="softmax").double()
    x = torch.randn(2, 9, 5, dtype=torch.float64)
    torch.manual_seed(1)
    norms = stability.gradient_norms(memory, x)
    torch.manual_seed(1)
    state, step = memory.initial_state(2), 1e-6
    y = memory(x, state)[0][:, -1]
    direction = torch.nn.functional.normalize(torch.randn_like(y), dim=-1)
    for leaf, size in (("M_0", 16), ("x_1", 5)):
        slopes = []
        for i in range(size):
            nearby, input = state["memory"].clone(), x.clone()
            (nearby.flatten(1) if leaf == "M_0" else input[:, 0])[:, i] += step
            change = memory(input, {**state, "memory": nearby})[0][:, -1] - y
            slopes.append((direction * change).sum(dim=1) / step)
        torch.testing.assert_close(norms[leaf], torch.stack(slopes).norm(dim=0), rtol=1e-4, atol=1e-9)


def test_relative_to_the_first_step_and_what_is_not_finite_has_exploded() -> None:
    norms = np.array([[1.0, 100.0, 10.0], [10.0, 0.0, np.nan]])
    low, high = stability._RANGE
    np.testing.assert_allclose(stability._relative(norms), [[-1, 1, 0], [0, low, high]])
    assert (stability._relative(np.full((2, 3), np.nan)) == high).all()


@pytest.mark.parametrize(("name", "variance"), [("Gaussian", 1), ("uniform", 1), ("Bernoulli 1/2", 0.25), ("AR(1) 0.99", 1)])
def test_noise(name: str, variance: float) -> None:
    torch.manual_seed(0)
    x = inputs.NOISE[name](64, 200, 16)
    assert (x.shape, x.dtype) == ((64, 200, 16), torch.float32)
    assert x.var().item() == pytest.approx(variance, rel=0.1)
    neighbours = (x[:, 1:] - x.mean()) * (x[:, :-1] - x.mean())
    assert neighbours.mean().item() / variance == pytest.approx(0.99 if name.startswith("AR") else 0, abs=0.1)


def test_students_tails_are_heavy() -> None:
    torch.manual_seed(0)
    x = inputs.NOISE["Student t, 2 degrees"](100, 100, 10)
    assert (x.abs() > 4.303).float().mean().item() == pytest.approx(0.05, abs=0.005)  # the quantile in any table


def test_recorded_observations_differ_between_tasks_and_are_kept() -> None:
    first, *others = [inputs.recorded(task, 2, 30, 8, 0) for task in inputs.TASKS]
    assert first.shape == (2, 30, 8)
    assert not any(torch.equal(first, other) for other in others)
    assert first.std(dim=1).min() > 0
    assert inputs.recorded(inputs.TASKS[0], 2, 30, 8, 0) is first


def test_a_run_and_its_continuation(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        stability, "VARIANTS", {k: v for k, v in stability.VARIANTS.items() if k in ("SHM, random theta", "GRU")}
    )
    findings = stability.run("tiny", tmp_path, lambda _: None, 0)
    assert len(findings.rows) == 2 * 2 * len(stability.INPUTS)
    assert len(findings.conclusion) == 3
    assert all((row.memory == "GRU") == (row.median_product is None) for row in findings.rows)
    assert all((row.network == "initial") == (row.accuracy is None) for row in findings.rows)
    monkeypatch.setattr(stability, "measure", lambda *_: pytest.fail("a finished part was made again"))
    assert stability.run("tiny", tmp_path, lambda _: None, 0).rows == findings.rows


def rows(vanished: float, exploded: float, typical: float) -> list[stability.Row]:
    return [
        stability.Row(
            memory=memory,
            network=network,
            inputs=inputs,
            accuracy=None,
            lost=None,
            M_0_gradient=0.0,
            M_0_vanished=vanished if inputs == "Gaussian" else 0.0,
            M_0_exploded=exploded if memory == "GRU" else 0.0,
            x_1_gradient=0.0,
            x_1_vanished=0.0,
            x_1_exploded=0.0,
            mean_product=0.0,
            median_product=typical,
        )
        for network in stability.NETWORKS
        for memory in ("SHM, random theta", "GRU")
        for inputs in ("Gaussian", "uniform")
    ]


def test_conclusions_follow_the_numbers() -> None:
    first, second, third = stability.conclude(rows(0.25, 0.5, -7.5), 4096, 16384)
    assert first.startswith(
        "Over 4,096 steps of Gaussian input the gradient to M_0 vanishes in 25% of the rows of SHM, random theta"
    )
    assert "explodes in 50% of the rows of GRU in trained networks" in first
    assert "in 88% of the rows of SHM, random theta, 38% of the rows of GRU" in second
    assert "lost most often, in 25% of the rows, under Gaussian in initial networks" in second
    assert "a mean of 1.00 after 64 steps" in third
    assert "10^-7.5 after 16,384: the typical entry vanishes" in third
    first, second, third = stability.conclude(rows(0, 0, 8), 4096, 16384)
    assert "vanishes in none and explodes in none in initial networks" in first
    assert second.endswith("it is never lost.")
    assert third.endswith("explodes.")
    assert stability.conclude(rows(0, 0, 1), 4096, 16384)[2].endswith("stays in bounds.")

"""Running statistics: those of NumPy over the same data, saved with the weights, and exact under powers of two."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from gymnasium import spaces

from hadamem.envs.layout import Encoder, Layout
from hadamem.networks import ObservationNormaliser, RewardScale, ValueHead


def layout_of(space: spaces.Space) -> Layout:
    return Layout(Encoder(space).leaves)


def test_statistics_are_those_of_numpy_over_the_same_data() -> None:
    generator = np.random.default_rng(0)
    normaliser = ObservationNormaliser(layout_of(spaces.Box(-np.inf, np.inf, (3,))))
    data = generator.normal([1e3, -2.0, 0.0], [0.5, 1e-4, 1e4], (900, 3)).astype(np.float32)
    for part in np.split(data, [1, 100, 101, 700]):
        normaliser.update(torch.from_numpy(part))
    exact = data.astype(np.float64)
    np.testing.assert_allclose(normaliser.moments.mean.numpy(), exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(normaliser.moments.deviation().numpy(), exact.std(0), rtol=1e-12)
    seen = normaliser(torch.from_numpy(data))
    np.testing.assert_allclose(seen.mean(0).numpy(), 0, atol=1e-3)
    np.testing.assert_allclose(seen.std(0).numpy(), 1, rtol=1e-2)


def test_one_hot_columns_and_screens_pass_and_grids_are_normalised_by_channel() -> None:
    space = spaces.Dict(
        {
            "card": spaces.Discrete(3),
            "codes": spaces.Box(0, 255, (5, 5, 3), np.uint8),
            "grid": spaces.Box(0, 255, (5, 5, 3), np.float32),
            "screen": spaces.Box(0, 255, (20, 20, 3), np.uint8),
            "switches": spaces.MultiBinary(2),
            "speed": spaces.Box(-1, 1, (1,)),
        }
    )
    layout = layout_of(space)
    normaliser = ObservationNormaliser(layout)
    leaves = {leaf.name: leaf for leaf in layout.leaves}
    rows = torch.rand(64, layout.size)
    normaliser.update(rows)
    after = normaliser(rows)
    for name in ("obs.card", "obs.codes", "obs.screen", "obs.switches"):
        assert torch.equal(after[:, leaves[name].columns], rows[:, leaves[name].columns])
    grid = after[:, leaves["obs.grid"].columns].reshape(-1, 3, 25)
    torch.testing.assert_close(grid.mean((0, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(grid.std((0, 2), correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_a_column_that_never_changes_is_only_shifted() -> None:
    normaliser = ObservationNormaliser(layout_of(spaces.Box(-np.inf, np.inf, (1,))))
    normaliser.update(torch.full((10, 1), 7.0))
    assert normaliser(torch.tensor([[7.0], [7.5]])).flatten().tolist() == [0.0, 0.5]


def test_statistics_are_saved_with_the_weights() -> None:
    layout = layout_of(spaces.Box(-np.inf, np.inf, (2,)))
    first, second = ObservationNormaliser(layout), ObservationNormaliser(layout)
    first.update(torch.randn(50, 2) * 9 + 5)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    rows, more = torch.randn(8, 2), torch.randn(30, 2)
    assert torch.equal(first(rows), second(rows))
    for normaliser in (first, second):
        normaliser.update(more)
    assert torch.equal(first(rows), second(rows))


def test_without_it_observations_pass() -> None:
    normaliser = ObservationNormaliser(layout_of(spaces.Box(-np.inf, np.inf, (2,))), enabled=False)
    rows = torch.randn(8, 2) * 100
    normaliser.update(rows)
    assert torch.equal(normaliser(rows), rows)


@pytest.mark.parametrize("scale", [2.0**-10, 2.0**10])
def test_values_keep_what_they_were_and_learn_in_units_of_their_targets(scale: float) -> None:
    torch.manual_seed(0)
    heads = [ValueHead(6), ValueHead(6)]
    x, targets = torch.randn(40, 6), torch.randn(40) * 3 + 5
    optimisers = [torch.optim.Adam(head.parameters(), lr=0.01) for head in heads]
    for head, optimiser, unit in zip(heads, optimisers, (1.0, scale), strict=True):
        assert not head(x).any()
        head.update(unit * targets)
        torch.testing.assert_close(head(x), unit * targets.mean().expand(40))
        for step in range(5):
            before = head(x).detach()
            head.update(unit * (targets + step))
            torch.testing.assert_close(head(x), before, rtol=1e-5, atol=1e-5 * unit)
            optimiser.zero_grad()
            ((head(x) - unit * targets) / head.deviation).square().mean().backward()
            optimiser.step()
    assert heads[0](x).std() > 0.1
    assert torch.equal(heads[1](x), scale * heads[0](x))


def test_rewards_are_scaled_by_the_deviation_of_their_discounted_sums() -> None:
    generator = np.random.default_rng(1)
    reward, end = generator.normal(2, 3, (3, 40)), generator.random((3, 40)) < 0.1
    scale = RewardScale(3, 0.9)
    for columns in np.split(np.arange(40), [7, 8, 30]):
        scale.update(torch.from_numpy(reward[:, columns]), torch.from_numpy(end[:, columns]))
    sums = []
    for b in range(3):
        running = 0.0
        for t in range(40):
            running = reward[b, t] + 0.9 * running
            sums.append(running)
            running *= not end[b, t]
    assert scale.deviation == pytest.approx(np.std(sums), rel=1e-12)
    assert RewardScale(3, 0.9, enabled=False).deviation == 1

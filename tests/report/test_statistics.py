"""Aggregates against values by hand, and intervals against what is known of them. With the same scores and resamples, rliable
1.2.0 (made to run beside arch 7.2) gave the same estimates, and ends of intervals within 0.01."""

from __future__ import annotations

import numpy as np
import pytest

from hadamem.report.statistics import AGGREGATES, Estimate, aggregate, band, improvement, normalise, profile

SCORES = np.array([[0.0, 11.0, 4.0], [2.0, 29.0, 8.0]])  # 2 runs of 3 tasks: means 1, 20, 6


def test_aggregates_by_hand() -> None:
    values = {name: float(function(SCORES)) for name, function in AGGREGATES.items()}
    # of 0 2 4 8 11 29 the interquartile mean leaves out one at each end
    assert values == {"mean": 9.0, "median": 6.0, "iqm": 6.25}
    one_task = np.array([[5.0], [1.0], [2.0]])
    assert aggregate(one_task, "median", 100).value == 2.0  # of its runs, not of its only mean


def test_stacked_matrices_are_aggregated_one_by_one() -> None:
    for function in AGGREGATES.values():
        np.testing.assert_allclose(function(np.stack([SCORES, 2 * SCORES])), [function(SCORES), 2 * function(SCORES)])


def test_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    N = 400
    scores = np.random.default_rng(1).normal(size=(N, 1))
    estimate = aggregate(scores, "mean", 4000)
    width = 1.96 * scores.std() / np.sqrt(N)
    assert estimate.low == pytest.approx(estimate.value - width, abs=0.1 * width)
    assert estimate.high == pytest.approx(estimate.value + width, abs=0.1 * width)


def test_runs_are_resampled_within_their_task() -> None:
    """Where the runs of each task are equal, resampling changes nothing, however different the tasks are."""
    scores = np.tile([0.0, 5.0, 100.0], (4, 1))
    for name in AGGREGATES:
        estimate = aggregate(scores, name, 200)
        assert estimate.low == estimate.value == estimate.high
    np.testing.assert_allclose(profile(scores, np.array([1.0]), 200)[:, 0], 2 / 3)


def test_one_run_has_no_interval() -> None:
    estimates = [aggregate(SCORES[:1], name, 200) for name in AGGREGATES] + [improvement(SCORES[:1], SCORES, 200)]
    assert all(np.isnan([e.low, e.high]).all() and np.isfinite(e.value) for e in estimates)
    for made in (band(SCORES[:1], 200), profile(SCORES[:1], np.array([3.0]), 200)):
        assert np.isfinite(made[0]).all()
        assert np.isnan(made[1:]).all()


def test_improvement_counts_pairs() -> None:
    ours, theirs = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[2.0, 5.0], [0.0, 6.0], [3.0, 4.0]])
    # first task: 1 beats 0; 3 beats 2 and 0, ties 3: 3.5 of 6. Second: each ties 5, beats 4: 3 of 6
    estimate = improvement(ours, theirs, 2000)
    assert estimate.value == pytest.approx((3.5 / 6 + 3 / 6) / 2)
    assert 0 <= estimate.low < estimate.value < estimate.high <= 1
    assert improvement(theirs, ours, 100).value == pytest.approx(1 - estimate.value)
    assert improvement(ours + 9, theirs, 100) == Estimate(1.0, 1.0, 1.0)


def test_profile_and_band() -> None:
    share, low, high = profile(SCORES, np.array([-1.0, 4.0, 9.0, 30.0]), 500)
    np.testing.assert_allclose(share, [1, 3 / 6, 2 / 6, 0])  # above, not at
    assert (low <= share).all()
    assert (share <= high).all()
    curves = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 4.0]])
    mean, low, high = band(curves, 2000)
    np.testing.assert_allclose(mean, [1, 2])
    assert low[1] == 1.0  # a resample that leaves out the last run
    same = aggregate(curves[:, :1], "mean", 2000)
    assert (low[0], high[0]) == pytest.approx((same.low, same.high), abs=0.35)  # ends lie on a lattice of thirds


def test_normalise() -> None:
    np.testing.assert_allclose(normalise(np.array([-0.5, 0.25, 1.0]), -0.5, 1.0), [0, 0.5, 1])
    np.testing.assert_allclose(normalise(np.array([3.0, 3.0]), 3.0, 3.0), 0.5)


def test_equal_scores_give_equal_intervals() -> None:
    assert aggregate(SCORES, "iqm", 300) == aggregate(SCORES.copy(), "iqm", 300)

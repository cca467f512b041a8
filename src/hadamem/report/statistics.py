"""Aggregates of scores over seeds and tasks with stratified bootstrap intervals (Agarwal et al., 2021, "Deep reinforcement
learning at the edge of the statistical precipice"), equal to those of their package rliable.

A score matrix is (N, M): N runs (seeds) of each of M tasks. Runs are resampled with replacement within each task, independently
of the other tasks; an interval holds the middle 95 % of the values of the resamples. One run says nothing about the spread, so
that its interval is NaN. Every function draws its resamples anew from `seed`, so that equal scores give equal intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_TAILS = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; the ends are NaN if there is no interval."""

    value: float
    low: float = math.nan
    high: float = math.nan


def mean(scores: Array) -> Array:
    """The mean over the tasks of the mean over their runs, for scores (..., N, M)."""
    return scores.mean((-2, -1))


def median(scores: Array) -> Array:
    """The median over the tasks of the mean over their runs, for scores (..., N, M); for a single task, the median of its
    runs."""
    return np.median(scores[..., 0] if scores.shape[-1] == 1 else scores.mean(-2), -1)


def interquartile_mean(scores: Array) -> Array:
    """The mean of the runs of all tasks without the lowest and the highest quarter of them, for scores (..., N, M)."""
    pooled = np.sort(scores.reshape(*scores.shape[:-2], -1), -1)
    cut = pooled.shape[-1] // 4
    return pooled[..., cut : pooled.shape[-1] - cut].mean(-1)


#: Aggregates by name.
AGGREGATES: dict[str, Callable[[Array], Array]] = {"mean": mean, "median": median, "iqm": interquartile_mean}


def aggregate(scores: Array, name: str, reps: int, seed: int = 0) -> Estimate:
    """One of AGGREGATES of scores (N, M), with its interval over `reps` resamples."""
    function = AGGREGATES[name]
    value = float(function(scores))
    if len(scores) == 1:
        return Estimate(value)
    chosen = np.random.default_rng(seed).integers(len(scores), size=(reps, *scores.shape))
    return Estimate(value, *_interval(function(np.take_along_axis(scores[None], chosen, 1))))


def improvement(scores: Array, baseline: Array, reps: int, seed: int = 0) -> Estimate:
    """The probability that a run of one memory (N, M) does better than a run of another (N', M) on the same task, averaged over
    the tasks; a tie is half a win. It is Mann and Whitney's U, divided by the number of pairs."""
    wins = (scores[:, None] > baseline).astype(float) + 0.5 * (scores[:, None] == baseline)  # (N, N', M)
    value = float(wins.mean())
    if min(len(scores), len(baseline)) == 1:
        return Estimate(value)
    rng, M = np.random.default_rng(seed), scores.shape[1]
    ours, theirs = (_counts(rng, reps, len(matrix), M) for matrix in (scores, baseline))
    resampled = np.einsum("rmx,xym,rmy->r", ours, wins, theirs, optimize=True) / wins.size
    return Estimate(value, *_interval(resampled))


def profile(scores: Array, thresholds: Array, reps: int, seed: int = 0) -> Array:
    """The share of the runs (N, M) above each threshold (K,): the share itself and the two ends of its interval, as (3, K)."""
    above = (scores.T[:, :, None] > thresholds).astype(float)  # (M, N, K)
    counts = None if len(scores) == 1 else _counts(np.random.default_rng(seed), reps, *scores.shape)
    return _with_band(above.reshape(-1, len(thresholds)), counts)


def band(curves: Array, reps: int, seed: int = 0) -> Array:
    """The mean of curves (N, K) of N runs at K points, and the two ends of its interval at each point, as (3, K)."""
    counts = None if len(curves) == 1 else _counts(np.random.default_rng(seed), reps, len(curves), 1)
    return _with_band(curves, counts)


def normalise(scores: Array, low: float, high: float) -> Array:
    """Scale scores such that `low` becomes 0 and `high` becomes 1. If the two are equal, no score is better than another, and
    all become 0.5. If `low` is NaN, there is no scale, and all become NaN."""
    if math.isnan(low):
        return np.full_like(scores, math.nan)
    return (scores - low) / (high - low) if high > low else np.full_like(scores, 0.5)


def _counts(rng: np.random.Generator, reps: int, N: int, M: int) -> Array:
    """How often each resample draws each run: (reps, M, N)."""
    return rng.multinomial(N, np.full(N, 1 / N), size=(reps, M)).astype(float)


def _with_band(rows: Array, counts: Array | None) -> Array:
    """The mean of rows (R, K), and its interval over resamples, given as how often each contains each of the R rows."""
    means = rows.mean(0)
    if counts is None:
        return np.stack([means, np.full_like(means, math.nan), np.full_like(means, math.nan)])
    resampled = counts.reshape(len(counts), -1) @ rows / len(rows)
    return np.stack([means, *np.percentile(resampled, _TAILS, axis=0)])


def _interval(resampled: Array) -> tuple[float, float]:
    low, high = np.percentile(resampled, _TAILS)
    return float(low), float(high)

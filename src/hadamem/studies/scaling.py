"""How time, memory and sequential depth of the Hadamard recurrence grow with the length of a sequence, by backend."""

from __future__ import annotations

import math
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..agents.config import seed_for
from ..agents.making import make_agent, make_environment
from ..bench.memories import in_turn
from ..measure import peak_extra_mb
from ..ops import hadamard_memory
from ..ops.hadamard import parallel
from ..recipes.presets import preset_config
from ..report.curves import COLOURS
from . import Budget
from .base import Findings, Study
from .cells import Limits, Stopped, measure_cached

H = 32  # the memory is a matrix of H x H; there is one row
MEGABYTES = 4000.0  # a process that holds more memory is stopped
WAYS = {"forward": "forward", "both": "both ways"}  # forward alone; forward and backward
#: device of the tensors and backend of the operator, by their name in the study
CONTENDERS = {
    "reference": ("cpu", "reference"),
    "parallel": ("cpu", "parallel"),
    "cpu": ("cpu", "cpu"),
    "parallel on GPU": ("cuda", "parallel"),
    "gpu": ("cuda", "gpu"),
}
TASK = "popgym-RepeatPreviousEasy-v0"
_T = TypeVar("_T")
_MARKERS = ("o", "s", "^", "D", "v")


@dataclass(frozen=True)
class Size:
    """How much a budget measures.

    Attributes:
        lengths: lengths T of a sequence.
        seconds: time limit of a call; a call that takes longer is left out, as are the same calls on longer sequences.
        timing: seconds of timing for each length, all backends together; at least three rounds are made.
        iterations: number of iterations of PPO.
        fresh: whether every part runs in a process of its own, without which a peak of memory means little.
    """

    lengths: Sequence[int]
    seconds: float
    timing: float
    iterations: int
    fresh: bool = True


SIZES: dict[Budget, Size] = {
    "full": Size([2**n for n in range(6, 17)], seconds=20, timing=60, iterations=30),
    "small": Size([4**n for n in range(3, 9)], seconds=5, timing=5, iterations=10),
    "tiny": Size([4, 8, 16], seconds=5, timing=0, iterations=2, fresh=False),
}


@dataclass(frozen=True)
class Trial:
    """A first call: its seconds, and the megabytes that it takes above its inputs."""

    seconds: float
    extra_mb: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """A backend at a length: milliseconds and megabytes of a call, and the exponent p of time = c T^p; None: left out."""

    backend: str
    T: int
    log2_length: Annotated[float, "log2 T"]
    depth: Annotated[int, "sequential depth"]
    forward_ms: Annotated[float | None, "forward, ms"]
    both_ms: Annotated[float | None, "both ways, ms"]
    forward_mb: Annotated[float | None, "forward, extra MB"]
    both_mb: Annotated[float | None, "both ways, extra MB"]
    forward_exponent: Annotated[float | None, "forward, exponent"] = None
    both_exponent: Annotated[float | None, "both ways, exponent"] = None


def _call(name: str, way: str, T: int, seed: int) -> Callable[[], None]:
    """A call of a contender on random tensors; with `way` "both", it also computes the gradients of all of them."""
    device, backend = CONTENDERS[name]
    torch.manual_seed(seed)
    u, w, a, k, q = (torch.randn(1, T, H).mul_(0.3).to(device).requires_grad_(way == "both") for _ in range(5))
    gradient = torch.randn(1, T, H, device=device)

    def call() -> None:
        h, _ = hadamard_memory(a, k, q, factors=(u, w), backend=backend)
        if way == "both":
            torch.autograd.grad(h, [u, w, a, k, q], gradient)
        if device == "cuda":
            torch.cuda.synchronize()

    return call


def trial(name: str, way: str, T: int, seed: int) -> Trial:
    """Measure a first call on T steps, made after a call on two steps."""
    _call(name, way, 2, seed)()
    call = _call(name, way, T, seed)
    on_gpu = CONTENDERS[name][0] == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    begin = time.perf_counter()
    extra = peak_extra_mb(call)
    seconds = time.perf_counter() - begin
    return Trial(seconds, (torch.cuda.max_memory_allocated() - before) / 1e6 if on_gpu else extra)


def times(T: int, names: dict[str, list[str]], seconds: float, seed: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of a call, {way: {name: ...}}, for contenders taken in turn."""
    calls = {(way, name): _call(name, way, T, seed) for way in names for name in names[way]}
    found = in_turn({f"{way} {name}": call for (way, name), call in calls.items()}, 1, seconds)
    return {way: {name: statistics.median(found[f"{way} {name}"]) / 1e3 for name in names[way]} for way in names}


def learning(backend: str, iterations: int, seed: int) -> dict[str, list[float]]:
    """Train PPO with SHM on a backend of the processor, and return its return and losses in each iteration."""
    config = preset_config("fast", TASK, "shm")
    assert config.ppo is not None
    ppo = replace(config.ppo, num_envs=16, num_steps=64, minibatches=4)
    options = (*config.memory_options, f"backend={backend}")
    config = replace(config, memory_size=16, memory_options=options, ppo=ppo)
    torch.manual_seed(seed_for(seed, "network"))
    env = make_environment(config, ppo.num_envs, seed_for(seed, "environment"))
    agent = make_agent(config, env)
    iterations_metrics = [agent.iterate() for _ in range(iterations)]
    env.close()
    return {name: [metrics[name] for metrics in iterations_metrics] for name in ("return", "policy_loss", "value_loss")}


def depth(name: str, T: int) -> int:
    """Length of the longest chain of dependent steps. For the scan, it is counted by running the scan on depths."""
    if CONTENDERS[name][1] != "parallel":
        return T
    leaf = torch.zeros(1, T, dtype=torch.int64)

    def deeper(earlier: tuple[Tensor, ...], later: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        depth = torch.maximum(earlier[0], later[0]) + 1
        return depth, depth, depth

    return int(parallel.scan(deeper, (leaf, leaf, leaf))[0].max())


def exponent(lengths: Sequence[int], values: Sequence[float | None]) -> float | None:
    """The exponent p of the fit value = c T^p over the longer half of the lengths that have a value, at least three of them.

    The fit is by least squares of the logarithms. None: fewer than three lengths have a value.
    """
    there = [(T, value) for T, value in zip(lengths, values, strict=True) if value]
    there = there[-max(3, math.ceil(len(there) / 2)) :]
    if len(there) < 3:
        return None
    x, y = np.log(there).T
    return float(np.polyfit(x, y, 1)[0])


def run(budget: Budget, work: pathlib.Path, on_progress: Callable[[str], None], seed: int) -> Findings:
    """See `base.Study`."""
    size = SIZES[budget]
    limits = Limits(size.seconds, MEGABYTES) if size.fresh else None
    names = [name for name, (device, _) in CONTENDERS.items() if device == "cpu" or torch.cuda.is_available()]
    stopped: dict[tuple[str, str], str] = {}
    rows = list[Row]()
    for T in size.lengths:
        on_progress(f"T = {T:,}")
        extra, able = {}, {way: list[str]() for way in WAYS}
        for way in WAYS:
            for name in names:
                if (name, way) in stopped:
                    continue
                tried = measure_cached(work, trial, name, way, T, seed, limits=limits)
                if isinstance(tried, Stopped) or tried.seconds > size.seconds:
                    why = tried.stopped if isinstance(tried, Stopped) else "time"
                    stopped[name, way] = f"{name} ({WAYS[way]}) from T = {T:,} on, for want of {why}"
                else:
                    able[way].append(name)
                    extra[name, way] = tried.extra_mb
        taken = _unlimited(work, size, times, T, able, size.timing, seed)
        for name in names:
            ms = {f"{way}_ms": taken[way].get(name) for way in WAYS}
            mb = {f"{way}_mb": extra.get((name, way)) for way in WAYS}
            rows.append(Row(backend=name, T=T, log2_length=math.log2(T), depth=depth(name, T), **ms, **mb))
    rows = [row for name in names for row in _fitted([row for row in rows if row.backend == name])]
    rows.sort(key=lambda row: row.T)
    on_progress("PPO with each backend")
    on_processor = [backend for device, backend in CONTENDERS.values() if device == "cpu"]
    curves = {backend: _unlimited(work, size, learning, backend, size.iterations, seed) for backend in on_processor}
    threads = torch.get_num_threads()
    return Findings(
        question="How do time, memory and sequential depth of each backend grow with the length of a sequence?",
        rows=rows,
        conclusion=[_on_time(rows), _on_depth(rows), _on_learning(curves, size.iterations)],
        figure=_draw(rows),
        notes=[
            f"One row, H = {H}, calibration tanh_outer, float32, {threads} thread{'s' * (threads > 1)}. "
            "Times are medians of rounds in which all backends take turns; extra MB is the peak above the inputs, of the first "
            "call in a fresh process (of the GPU's memory where that computes). "
            "The exponent is the slope of log time over log T, by least squares over the longer half of the lengths.",
            "The sequential depth is counted, not timed: the scan is run on the depths of what it combines. The fused kernels "
            "walk one row of a batch step by step, and compute rows of the batch, and rows of the memory, side by side.",
            f"A call may take {size.seconds:g} seconds and its process {MEGABYTES:,.0f} MB. "
            + (f"Left out: {'; '.join(stopped.values())}." if stopped else "None was left out."),
        ],
    )


def _unlimited(work: pathlib.Path, size: Size, measure: Callable[..., _T], *arguments: Any) -> _T:
    """Measure a part of the study without limits."""
    found = measure_cached(work, measure, *arguments, limits=Limits() if size.fresh else None)
    assert not isinstance(found, Stopped)
    return found


def _fitted(rows: Sequence[Row]) -> list[Row]:
    """The rows of one backend, each with the exponents of the fit to all of them."""
    lengths = [row.T for row in rows]
    forward, both = (exponent(lengths, ms) for ms in ([row.forward_ms for row in rows], [row.both_ms for row in rows]))
    return [replace(row, forward_exponent=forward, both_exponent=both) for row in rows]


def _at(rows: Sequence[Row], name: str, T: int) -> Row:
    return next(row for row in rows if row.backend == name and row.T == T)


def _longest(rows: Sequence[Row], *names: str) -> int:
    """The longest T at which all named backends were timed both ways."""
    return max(row.T for row in rows if all(_at(rows, name, row.T).both_ms for name in names))


def _on_time(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(row.backend for row in rows))
    fits = [f"{name} T^{_at(rows, name, rows[0].T).both_exponent or math.nan:.2f}" for name in names]
    fastest, beside = names[-1], []
    for name in names[:-1]:
        T = _longest(rows, name, fastest)
        ratio = (_at(rows, name, T).both_ms or math.nan) / (_at(rows, fastest, T).both_ms or math.nan)
        beside.append(f"{name} takes {ratio:,.1f} times as long as {fastest} (T = {T:,})")
    return f"Forward and backward, time grows as {', '.join(fits)}; {', '.join(beside)}."


def _on_depth(rows: Sequence[Row]) -> str:
    T = _longest(rows, "parallel", "cpu")
    scan, fused = _at(rows, "parallel", T), _at(rows, "cpu", T)
    return (
        f"At T = {T:,} the scan has {scan.depth} dependent steps, {scan.depth / math.log2(T):.2f} times log2 T, and "
        f"{scan.both_mb:,.0f} MB above its inputs, where the fused kernel on the processor has {fused.depth:,} dependent steps "
        f"and {fused.both_mb:,.1f} MB."
    )


def _on_learning(curves: dict[str, dict[str, list[float]]], iterations: int) -> str:
    first, *others = curves
    apart = {
        name: max(float(np.nanmax(np.abs(np.subtract(curves[other][name], values)))) for other in others)
        for name, values in curves[first].items()
    }
    return (
        f"PPO on {TASK} from the same seed has the same curve on {', '.join(others)} as on {first}, up to "
        f"{apart['return']:.1g} in return and {apart['value_loss']:.1g} in value loss over {iterations} iterations."
    )


def _draw(rows: Sequence[Row]) -> Figure:
    names = list(dict.fromkeys(row.backend for row in rows))
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    for i, name in enumerate(names):
        mine = [row for row in rows if row.backend == name]
        T = [row.T for row in mine]
        style: dict[str, Any] = {"color": COLOURS[i], "marker": _MARKERS[i], "markersize": 4}
        for axis, unit in zip(axes, ("ms", "mb"), strict=False):
            for way, line in (("forward", "--"), ("both", "-")):
                fit = getattr(mine[0], f"{way}_exponent")
                label = f"{name}, {WAYS[way]}" + (f": $T^{{{fit:.2f}}}$" if fit is not None and unit == "ms" else "")
                values = [math.nan if (value := getattr(row, f"{way}_{unit}")) is None else value for row in mine]
                axis.plot(T, values, line, **style, markerfacecolor="white" if way == "forward" else None, label=label)
        # loops have equal depths, so that their lines coincide: lines are dotted, with larger, empty markers for later backends
        later = {"linestyle": ":", "markersize": 4 + 3 * i, "markerfacecolor": "none"}
        axes[2].plot(T, [row.depth for row in mine], **{**style, **later}, label=name)
    T = sorted({row.T for row in rows})
    axes[2].plot(T, np.log2(T), color="black", linewidth=1, label="$\\log_2 T$")
    for axis, label in zip(axes, ("time of a call (ms)", "memory above the inputs (MB)", "dependent steps"), strict=True):
        axis.set(xlabel="T, steps of one row", ylabel=label)
        axis.set_xscale("log", base=2)
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[1].set_yscale("symlog", linthresh=0.1)  # values below 0.1 MB are noise, and may be 0
    axes[1].set_ylim(bottom=-0.03, top=2 * max(axes[1].get_ylim()[1], 0.1))
    axes[2].set_yscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False)
    axes[2].legend(frameon=False)
    return figure


STUDY = Study(
    about="time, memory and sequential depth of each backend against the length of a sequence",
    run=run,
    expected={"full": "a time not measured yet", "small": "about 4 minutes", "tiny": "seconds"},
)

"""Time and memory of a function, measured in a separate process."""

from __future__ import annotations

import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def median_seconds(function: Callable[[], Any], budget: float = 2.0, most: int = 101) -> float:
    """The median time of a call, in seconds. After a first call as warm-up, as many calls are timed as fit into `budget`
    (seconds), at most `most`; if none fits, the time of the first call is returned."""
    first = _seconds(function)
    count = min(most, int(budget / max(first, 1e-9)))
    return statistics.median([_seconds(function) for _ in range(count)] or [first])


def _seconds(function: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def processors() -> int:
    """How many processors this process may use: those it may run on, limited by the quota of its control group (cgroup)."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = pathlib.Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return own if quota == "max" else max(1, min(own, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such limit on this system
        return own


def peak_extra_mb(function: Callable[[], Any]) -> float:
    """Megabytes (10^6 bytes) by which a call raises the resident memory of this process at its peak."""
    status = pathlib.Path("/proc/self/status")
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # Linux can forget the peak so far, if allowed to
        known = status.exists()
    except OSError:
        known = False
    if known:
        resident = _kilobytes(status.read_text(), "VmRSS")
        function()
        return max(0.0, (_kilobytes(status.read_text(), "VmHWM") - resident) * 1024 / 1e6)
    before = resident_mb()
    function()
    return resident_mb() - before


def resident_mb() -> float:
    """Megabytes (10^6 bytes) that this process held in memory at its peak."""
    import resource  # not there on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def _kilobytes(status: str, name: str) -> int:
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith(name)), 0)


class OverLimitError(RuntimeError):
    """A process was stopped because it took too much time or memory.

    Attributes:
        limit: which limit was exceeded, "time" or "memory".
    """

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


def in_fresh_process(
    module: str,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    seconds: float = math.inf,
    megabytes: float = math.inf,
) -> Any:
    """Run `python -m module arguments`, or a Python file, in a new process.

    Args:
        module: name of a module, or path of a file that ends with .py.
        arguments: command-line arguments of the program.
        environment: environment variables that are added to those of this process.
        seconds: time limit, after which the program is stopped.
        megabytes: memory limit, above which the program is stopped (checked 20 times a second, on Linux only).

    Returns:
        The value of the last line that the program prints, as JSON.

    Raises:
        OverLimitError: the program was stopped.
        RuntimeError: the program failed.
    """
    program = [module] if module.endswith(".py") else ["-m", module]
    command = [sys.executable, *program, *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, env={**os.environ, **(environment or {})})
        try:
            _wait(process, seconds, megabytes)
        finally:
            process.kill()
            process.wait()
        output.seek(0), errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{errors.read()[-2000:]}")
        return json.loads(output.read().splitlines()[-1])


def _wait(process: subprocess.Popen, seconds: float, megabytes: float) -> None:
    status, end = pathlib.Path(f"/proc/{process.pid}/status"), time.monotonic() + seconds
    while True:
        try:
            process.wait(0.05)
            return
        except subprocess.TimeoutExpired:
            if time.monotonic() > end:
                raise OverLimitError("time", f"not done after {seconds:,.0f} seconds") from None
            if status.exists() and _kilobytes(status.read_text(), "VmRSS") * 1024 / 1e6 > megabytes:
                raise OverLimitError("memory", f"more than {megabytes:,.0f} MB") from None


def side_by_side(
    module: str, names: Sequence[str], jobs: int, on_progress: Callable[[str], None], *arguments: object
) -> list[Any]:
    """`in_fresh_process(module, name, *arguments)` for every name, `jobs` at a time, with one thread each.

    Returns:
        The results, in the order of `names`.

    Raises:
        ValueError: jobs is not positive.
        RuntimeError: one of the processes failed; no further ones are started.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; it must be at least 1")

    def work(name: str) -> Any:
        result = in_fresh_process(module, name, *arguments, environment={"OMP_NUM_THREADS": "1"})
        done.append(name)
        on_progress(f"{len(done)} of {len(names)} done, the latest: {name}")
        return result

    done: list[str] = []
    on_progress(f"0 of {len(names)} done")
    with ThreadPoolExecutor(jobs) as pool:
        try:
            return list(pool.map(work, names))
        except BaseException:  # Ctrl-C above all
            pool.shutdown(wait=False, cancel_futures=True)
            raise

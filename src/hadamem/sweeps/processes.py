"""Parallel runs on this machine, each in its own process.

    python -m hadamem.sweeps.processes CONFIG FOLDER

trains one run, where CONFIG is its configuration as JSON. The process holds a lock while it trains, so that a second process
for the same folder waits, and then finds the run complete. The process ends, with a checkpoint, when its standard input is
closed, either by the sweep or because the sweep has ended.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict

from ..agents.config import config_from_dict
from ..measure import processors
from .runs import train_once
from .sweep import SweepRun

_log = logging.getLogger("hadamem")


def run_here(cells: Iterable[SweepRun], jobs: int, finished: Callable[[SweepRun], None], look: Callable[[], None]) -> None:
    """Train every waiting run, `jobs` at a time.

    Args:
        cells: the runs; the next run is taken from here when a process is free.
        jobs: number of processes in parallel.
        finished: called with every run whose process has ended.
        look: called repeatedly while the runs are trained.

    Raises:
        KeyboardInterrupt: the user stopped the runs; every run has written its checkpoint.
    """
    waiting, running = (cell for cell in cells if cell.state == "waiting"), dict[SweepRun, subprocess.Popen[bytes]]()
    try:
        while True:
            while len(running) < jobs and (cell := next(waiting, None)) is not None:
                running[cell] = start(cell)
            if not running:
                return
            for cell in [cell for cell, process in running.items() if process.poll() is not None]:
                ended(cell, running.pop(cell))
                finished(cell)
            look()
            for process in (process for cell, process in running.items() if cell.stop_requested):
                _ask_to_stop(process)
            time.sleep(0.2)
    except KeyboardInterrupt:
        _log.warning("stopping every run after its iteration, with a checkpoint; press Ctrl-C again to stop at once")
        raise
    finally:  # also if `look` or `finished` has raised an exception
        stop(running.values())


def start(cell: SweepRun, folder: str | None = None) -> subprocess.Popen[bytes]:
    """Start or continue a run in its own process, whose working folder may hold modules of tasks (None: the current folder)."""
    cell.state = "running"
    cell.log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", __name__, json.dumps(asdict(cell.config)), str(cell.path)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(cell.config.threads or processors())}
    with cell.log.open("ab") as log:  # in a separate session, so that Ctrl-C only reaches the sweep, which then closes stdin
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )


def ended(cell: SweepRun, process: subprocess.Popen[bytes]) -> None:
    """Wait for the process of a run; if it was killed by a signal, write that to its log, since it could not do so itself."""
    process.wait()  # not communicate(), which closes its standard input first: that would stop it
    _ask_to_stop(process)
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        with cell.log.open("a") as log:
            log.write(f"\nkilled by {name}{', as when memory runs out' if name == 'SIGKILL' else ''}\n")


def stop(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """Ask processes of runs to write their checkpoints and end, and wait; a Ctrl-C during the wait ends them at once."""
    for process in processes:
        _ask_to_stop(process)
    try:
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            process.kill()


def _ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def main() -> None:
    """Train a run in this process, see the docstring of the module."""
    sys.path.append("")  # modules of tasks are in the current folder; installed packages come first
    config, path = config_from_dict(json.loads(sys.argv[1])), pathlib.Path(sys.argv[2])
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    fcntl.flock(sys.stdout, fcntl.LOCK_EX)
    try:
        trained = train_once(config, path)
    except Exception as error:
        traceback.print_exc()
        # once more, after its notes: the sweep tells the last line
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
    if trained is None:
        raise SystemExit(130)


def _stop_at_end_of_input() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()

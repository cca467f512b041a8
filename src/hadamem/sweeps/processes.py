"""Runs side by side on this machine, each in a process of its own.

    python -m hadamem.sweeps.processes CONFIG FOLDER

trains one run, CONFIG being its configuration as JSON. The process holds a lock while it trains, so that a second one for the
same folder waits, and then finds it complete. It ends, with a checkpoint, when its standard input does: whether it was closed
or whoever held the other end is gone.
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
        cells: the runs; the next one is asked for when there is room for it.
        jobs: processes side by side.
        finished: told of every run whose process has ended.
        look: called again and again meanwhile.

    Raises:
        KeyboardInterrupt: the user stopped it; every run has written its checkpoint.
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
        _log.warning("stopping every run after its iteration, with a checkpoint; once more: at once")
        raise
    finally:  # of a display that failed, too
        stop(running.values())


def start(cell: SweepRun, folder: str | None = None) -> subprocess.Popen[bytes]:
    """Begin or go on with a run in a process of its own, in the folder where modules of tasks are (none: the current one)."""
    cell.state = "running"
    cell.log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", __name__, json.dumps(asdict(cell.config)), str(cell.path)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(cell.config.threads or processors())}
    with cell.log.open("ab") as log:  # in a session of its own: Ctrl-C is for the sweep, which ends it by closing stdin
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
    """Wait for the process of a run; if something killed it, which it could not tell itself, its log does."""
    process.wait()  # not communicate(), which closes its standard input first: that would stop it
    _ask_to_stop(process)
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        with cell.log.open("a") as log:
            log.write(f"\nkilled by {name}{', as when memory runs out' if name == 'SIGKILL' else ''}\n")


def stop(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """Let processes of runs write their checkpoints and end; a Ctrl-C meanwhile ends them at once."""
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
    """Train a run in this process, see above."""
    sys.path.append("")  # modules of tasks are in the current folder; installed packages come first
    config, path = config_from_dict(json.loads(sys.argv[1])), pathlib.Path(sys.argv[2])
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    fcntl.flock(sys.stdout, fcntl.LOCK_EX)
    if train_once(config, path) is None:
        raise SystemExit(130)


def _stop_at_end_of_input() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()

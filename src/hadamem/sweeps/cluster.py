"""Runs on the machines of a Ray cluster, each a trial of Ray Tune. They share a file system, where the run folders are."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ..agents.config import config_from_dict
from .processes import ended, start, stop
from .sweep import SweepRun


def run_on_ray(
    cells: Sequence[SweepRun],
    address: str,
    jobs: int | None,
    out: pathlib.Path,
    finished: Callable[[SweepRun], None],
    look: Callable[[], None],
) -> None:
    """Train every waiting run wherever the cluster has as many free processors as it has threads (and a GPU, if it needs one).

    Args:
        cells: of the sweep.
        address: of the cluster: "auto", or HOST:PORT of its head.
        jobs: runs side by side; None: as many as there is room for.
        out: where Tune may write; what it wrote is removed.
        finished, look: see `run_here`.

    Raises:
        ModuleNotFoundError: Ray Tune is not installed.
        KeyboardInterrupt: the user stopped it; every run goes on from its checkpoint, which may be 20 seconds old.
    """
    if importlib.util.find_spec("ray") is None:
        raise ModuleNotFoundError("--ray takes Ray Tune: pip install 'hadamem[ray]'")
    import ray
    from ray import tune

    class Told(tune.Callback):
        """Tune's events as those of the sweep."""

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            waiting[trial.config["number"]].state = "running"

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            finished(waiting[trial.config["number"]])

        on_trial_error = on_trial_complete  # what became of it is in its folder and its log

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
            look()

    waiting = [cell for cell in cells if cell.state == "waiting"]
    if not waiting:
        return
    settings = [
        {
            "number": i,
            "config": json.dumps(asdict(cell.config)),
            "path": str(cell.path.absolute()),
            "here": os.getcwd(),
            "threads": cell.config.threads or 1,
            "gpu": int(cell.config.device.startswith("cuda")),
        }
        for i, cell in enumerate(waiting)
    ]
    storage = out.absolute() / ".ray"
    ray.init(address=address, log_to_driver=False)
    try:
        tune.Tuner(
            tune.with_resources(
                _trial, lambda given: tune.PlacementGroupFactory([{"CPU": given["threads"], "GPU": given["gpu"]}])
            ),
            param_space=tune.grid_search(settings),
            tune_config=tune.TuneConfig(max_concurrent_trials=jobs),
            run_config=tune.RunConfig(storage_path=str(storage), callbacks=[Told()], verbose=0),
        ).fit()
    finally:
        ray.shutdown()
        shutil.rmtree(storage, ignore_errors=True)
    if any(cell.state in ("waiting", "running") for cell in waiting):  # Tune takes a Ctrl-C for itself, and returns
        raise KeyboardInterrupt


def _trial(given: dict[str, Any]) -> None:
    """A run, as Tune begins it on some machine: the same process as without a cluster."""
    cell = SweepRun("", "", config_from_dict(json.loads(given["config"])), pathlib.Path(given["path"]))
    process = start(cell, given["here"])
    try:
        ended(cell, process)
    finally:
        stop([process])

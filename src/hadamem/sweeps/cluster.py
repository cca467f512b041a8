"""Runs on a Ray cluster: the runs of a sweep as trials of Ray Tune, or one training of several processes with Ray Train.

The machines of the cluster must share the file system with the run folders.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ..agents.config import TrainConfig, config_from_dict
from ..agents.training import train
from ..checks import check_installed
from ..run import has_checkpoint
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
    """Train every waiting run on any machine with enough free processors for the run's threads (and a GPU, if it needs one).

    Args:
        cells: the runs of the sweep.
        address: address of the cluster: "auto", or HOST:PORT of its head.
        jobs: number of runs in parallel; None: as many as the cluster has room for.
        out: folder for the files of Tune, which are removed at the end.
        finished, look: see `run_here`.

    Raises:
        ModuleNotFoundError: Ray Tune is not installed.
        KeyboardInterrupt: the user stopped the sweep; every run can continue from its checkpoint, which may be 20 seconds old.
    """
    check_installed("ray", "ray")
    import ray
    from ray import tune

    class Told(tune.Callback):
        """Passes Tune's events on to the sweep."""

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            waiting[trial.config["number"]].state = "running"

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            finished(waiting[trial.config["number"]])

        on_trial_error = on_trial_complete  # the run's folder and log show whether it failed

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
                _trial, lambda payload: tune.PlacementGroupFactory([{"CPU": payload["threads"], "GPU": payload["gpu"]}])
            ),
            param_space=tune.grid_search(settings),
            tune_config=tune.TuneConfig(max_concurrent_trials=jobs),
            run_config=tune.RunConfig(storage_path=str(storage), callbacks=[Told()], verbose=0),
        ).fit()
    finally:
        ray.shutdown()
        shutil.rmtree(storage, ignore_errors=True)
    if any(cell.state in ("waiting", "running") for cell in waiting):  # Tune handles a Ctrl-C itself, and returns
        raise KeyboardInterrupt


def _trial(payload: dict[str, Any]) -> None:
    """A run of the sweep, as Tune starts it on some machine; it uses the same process as without a cluster."""
    cell = SweepRun("", "", config_from_dict(json.loads(payload["config"])), pathlib.Path(payload["path"]))
    process = start(cell, payload["here"])
    try:
        ended(cell, process)
    finally:
        stop([process])


def train_on_ray(config: TrainConfig, path: pathlib.Path, address: str, resume: bool = False) -> bool:
    """Train one run with the number of processes in its configuration, on any machines of the cluster; see `train`.

    If a process or its machine fails, all processes end and start again from the last checkpoint, on the machines that are left
    or have joined, until the run is complete.

    Args:
        config: the configuration; each process gets one processor per thread, and a GPU if the device is cuda.
        path: folder of the run, under the same path on all machines.
        address: see `run_on_ray`.
        resume: continue the run in that folder.

    Returns:
        Whether the run is complete.

    Raises:
        ModuleNotFoundError: Ray Train is not installed.
        ValueError: the folder or the configuration cannot be used.
    """
    check_installed("ray", "ray")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    storage = path.absolute().with_name(f".ray-{path.name}")
    storage.mkdir(parents=True, exist_ok=True)
    refused = storage / "refused"
    payload = {"config": json.dumps(asdict(config)), "path": str(path.absolute()), "resume": resume, "here": os.getcwd()}
    payload["refused"] = str(refused)
    processors = {"CPU": config.threads or 1}
    scaling = ScalingConfig(
        num_workers=config.processes, use_gpu=config.device.startswith("cuda"), resources_per_worker=processors
    )
    ray.init(address=address)
    try:
        running = RunConfig(storage_path=str(storage), failure_config=FailureConfig(max_failures=-1))
        TorchTrainer(_process, train_loop_config=payload, scaling_config=scaling, run_config=running).fit()
        if refused.exists():
            raise ValueError(refused.read_text())
    finally:
        ray.shutdown()
        shutil.rmtree(storage, ignore_errors=True)
    return (path / "result.json").exists()


def _process(payload: dict[str, Any]) -> None:
    """The training in each process, as Ray Train starts it on some machine, in a group of torch.distributed."""
    os.chdir(payload["here"])
    path = pathlib.Path(payload["path"])
    begun = payload["resume"] or has_checkpoint(path)
    try:
        train(config_from_dict(json.loads(payload["config"])), path, begun)
    except (ValueError, FloatingPointError) as error:  # trying again would lead to the same error
        pathlib.Path(payload["refused"]).write_text(str(error))

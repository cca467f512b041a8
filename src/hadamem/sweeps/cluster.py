"""Runs on the machines of a Ray cluster: those of a sweep as trials of Ray Tune, the processes of one training by Ray Train.
The machines share a file system, where the run folders are."""

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
    check_installed("ray", "ray")
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
                _trial, lambda payload: tune.PlacementGroupFactory([{"CPU": payload["threads"], "GPU": payload["gpu"]}])
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


def _trial(payload: dict[str, Any]) -> None:
    """A run, as Tune begins it on some machine: the same process as without a cluster."""
    cell = SweepRun("", "", config_from_dict(json.loads(payload["config"])), pathlib.Path(payload["path"]))
    process = start(cell, payload["here"])
    try:
        ended(cell, process)
    finally:
        stop([process])


def train_on_ray(config: TrainConfig, path: pathlib.Path, address: str, resume: bool = False) -> bool:
    """Train one run by as many processes as its configuration says, wherever the cluster has room for them; see `train`.

    A process that ends, with its machine or without, ends all; they begin again from the last checkpoint, on the machines that
    are left, or that join, until the run is complete.

    Args:
        config: what to train; each process has as many processors as it has threads, and a GPU if the device is cuda.
        path: folder of the run, under the same path on all machines.
        address: see `run_on_ray`.
        resume: go on with the run that is there.

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
    """What each process of a training does, as Ray Train begins it on some machine, in a group of torch.distributed."""
    os.chdir(payload["here"])
    path = pathlib.Path(payload["path"])
    begun = payload["resume"] or has_checkpoint(path)
    try:
        train(config_from_dict(json.loads(payload["config"])), path, begun)
    except (ValueError, FloatingPointError) as error:  # it would be the same at the next try
        pathlib.Path(payload["refused"]).write_text(str(error))

"""Trackers that show the metrics of a run: always TensorBoard, and Weights & Biases or MLflow if the configuration names them.

Training does not depend on any tracker: if one fails, a warning is logged once and that tracker is not used any more.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pathlib
import secrets
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from .checks import check_installed

_log = logging.getLogger("hadamem")


class Tracker(ABC):
    """Shows the metrics of a run. An error in `begin` is caught by `failing_softly`; `Trackers` guards the other calls."""

    name: str
    failed = False

    def __init__(self, path: pathlib.Path, config: Mapping[str, Any], first_step: int) -> None:
        with self.failing_softly():
            self.begin(path, config, first_step)

    @abstractmethod
    def begin(self, path: pathlib.Path, config: Mapping[str, Any], first_step: int) -> None:
        """Begin or continue the run in the folder `path`. Points from `first_step` on that already exist are not valid."""

    @abstractmethod
    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a point at `step` to the curve of each scalar."""

    @abstractmethod
    def attach(self, file: pathlib.Path) -> None:
        """Keep a file with the run."""

    @abstractmethod
    def end(self) -> None:
        """Finish: no more points follow."""

    @contextlib.contextmanager
    def failing_softly(self) -> Iterator[None]:
        """Within this context, an error ends this tracker, and the training goes on."""
        try:
            yield
        except Exception as error:
            self.failed = True
            with contextlib.suppress(Exception):
                self.end()
            _log.warning("%s: no longer written, the training goes on: %s", self.name, error)


class TensorBoard(Tracker):
    """Writes TensorBoard event files into the run folder."""

    name = "TensorBoard"
    _file: IO[bytes] | None = None

    def begin(self, path: pathlib.Path, config: Mapping[str, Any], first_step: int) -> None:
        """See Tracker."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"  # TensorBoard reads in name order
        self._file = (path / name).open("xb")
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=first_step, session_log=start))

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """See Tracker."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def attach(self, file: pathlib.Path) -> None:
        """Do nothing: the file is in the run folder already, beside the events."""

    def end(self) -> None:
        """See Tracker."""
        if self._file is not None:
            self._file.close()

    def _write(self, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        writer = RecordWriter(self._file)
        writer.write(event.SerializeToString())
        writer.flush()


class WeightsAndBiases(Tracker):
    """A run of Weights & Biases, whose files lie in the run folder. The environment variables of Weights & Biases apply:
    WANDB_MODE=offline sends nothing, WANDB_PROJECT names another project. It records processor and memory use by itself."""

    name = "Weights & Biases"

    def begin(self, path: pathlib.Path, config: Mapping[str, Any], first_step: int) -> None:
        """See Tracker; a run that is continued keeps its id."""
        import wandb

        project = os.environ.get("WANDB_PROJECT", "hadamem")
        kept = path / "wandb.id"
        if not kept.exists():
            kept.write_text(secrets.token_hex(4))
        id = kept.read_text()
        self._run = wandb.init(dir=path, project=project, name=path.name, id=id, resume="allow", config=dict(config))
        self._run.define_metric("*", step_metric="step")

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """See Tracker."""
        self._run.log({"step": step, **scalars})

    def attach(self, file: pathlib.Path) -> None:
        """See Tracker."""
        self._run.save(str(file.resolve()), base_path=str(file.parent.resolve()), policy="now")

    def end(self) -> None:
        """See Tracker."""
        if hasattr(self, "_run"):
            self._run.finish(exit_code=1 if self.failed else 0)


class MLflow(Tracker):
    """A run of MLflow. The environment variable MLFLOW_EXPERIMENT_NAME names its experiment ("hadamem" if unset), and
    MLFLOW_TRACKING_URI says where it is stored. Processor and memory use are recorded if psutil is installed."""

    name = "MLflow"

    def begin(self, path: pathlib.Path, config: Mapping[str, Any], first_step: int) -> None:
        """See Tracker; a run that is continued keeps its id."""
        import mlflow
        from mlflow.entities import Param

        kept, client = path / "mlflow.id", mlflow.MlflowClient()
        goes_on = kept.exists()
        if goes_on:
            self._id = kept.read_text()
            client.update_run(self._id, status="RUNNING")
        else:
            experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "hadamem"))
            self._id = client.create_run(experiment.experiment_id, run_name=path.name).info.run_id
            kept.write_text(self._id)
            client.log_batch(self._id, params=[Param(name, str(value)) for name, value in _flat(config)])
        self._client, self._system = client, None
        if importlib.util.find_spec("psutil") is not None:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self._system = SystemMetricsMonitor(self._id, resume_logging=goes_on)
            self._system.start()

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """See Tracker."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        self._client.log_batch(self._id, [Metric(name, value, now, step) for name, value in scalars.items()])

    def attach(self, file: pathlib.Path) -> None:
        """See Tracker."""
        self._client.log_artifact(self._id, str(file))

    def end(self) -> None:
        """See Tracker."""
        if hasattr(self, "_client"):
            if self._system is not None:
                self._system.finish()
            self._client.set_terminated(self._id, "FAILED" if self.failed else "FINISHED")


#: Values of --track, each with its tracker class and the package that the tracker needs.
TRACKERS: dict[str, tuple[type[Tracker], str]] = {"wandb": (WeightsAndBiases, "wandb"), "mlflow": (MLflow, "mlflow")}


def check_names(names: Sequence[str]) -> None:
    """Raise a ValueError for a name that is not in TRACKERS."""
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"track holds {name!r}; it may hold {' and '.join(TRACKERS)}")


def require(names: Sequence[str]) -> None:
    """Raise a ModuleNotFoundError that says what to install, unless the packages of the named trackers are installed."""
    for name in names:
        check_installed(TRACKERS[name][1], name)


class Trackers:
    """TensorBoard and the named trackers, used together.

    Args:
        names: names in TRACKERS.
        path: folder of the run.
        config: configuration of the run.
        first_step: see `Tracker.begin`.
    """

    def __init__(self, names: Sequence[str], path: pathlib.Path, config: Mapping[str, Any], first_step: int) -> None:
        kinds: list[type[Tracker]] = [TensorBoard, *(TRACKERS[name][0] for name in names)]
        self._all = [kind(path, config, first_step) for kind in kinds]

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """See Tracker."""
        for tracker in self._working():
            with tracker.failing_softly():
                tracker.add(step, scalars)

    def attach(self, file: pathlib.Path) -> None:
        """See Tracker."""
        for tracker in self._working():
            with tracker.failing_softly():
                tracker.attach(file)

    def close(self) -> None:
        """End all trackers."""
        for tracker in self._working():
            with tracker.failing_softly():
                tracker.end()

    def _working(self) -> list[Tracker]:
        return [tracker for tracker in self._all if not tracker.failed]


def _flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested dicts, under names such as "ppo.network.inputs" that join the names of all levels."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value

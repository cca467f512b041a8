"""A run is a folder with its configuration, metrics, checkpoint and result. A run that is killed at any moment loses only the
work since its last checkpoint, because each file is written under another name and then renamed. Only one process at a time
may write the folder."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import io
import json
import logging
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping
from typing import IO, Any

import torch

from .disk import on_disk, write_beside, write_whole
from .tracking import Trackers

_log = logging.getLogger("hadamem")
_LONGEST_LINE = 8192  # bytes: more than the last two lines of metrics together take
_LOCK = ".lock"
#: Temporary files that are left behind when the process is killed during a write.
_PART = re.compile(r"\.(config\.json|metrics\.jsonl|result\.json|checkpoint\.pt)\.\d+|\.checkpoint\.new")
#: Files in the folder of a run that was killed before its first checkpoint, besides its lock and the temporary files.
_UNBORN = re.compile(
    r"config\.json|metrics\.jsonl|replay(-\d+)?(\.states)?\.bin|events\.out\.tfevents\..*|wandb(\.id)?|mlflow\.id"
)


class NoRunError(ValueError):
    """A folder is not a run folder."""


class RunError(ValueError):
    """A run folder cannot be used: it is damaged, written by another version, or in use by another process."""

    @classmethod
    def damaged(cls, file: pathlib.Path, problem: object) -> RunError:
        """The error for a file in a run folder that does not have the form in which this version writes it."""
        return cls(
            f"{file}: {problem}; the file is damaged or of another version of hadamem: restore it from a copy, use that "
            "version, or begin a new run in another folder"
        )


def _write_checkpoint(path: pathlib.Path, checkpoint: Mapping[str, Any]) -> None:
    packed = io.BytesIO()  # torch's own writer does not report a full disk
    torch.save(dict(checkpoint), packed)
    write_whole(path, packed.getbuffer())


def versions() -> dict[str, str]:
    """The versions of Python, hadamem and its main packages, the machine, and the git commit."""
    found = {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for package in ("hadamem", "torch", "numpy", "numba", "gymnasium", "popgym"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    try:
        here = pathlib.Path(__file__).parent
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        found["commit"] = commit.stdout.strip() if commit.returncode == 0 else "unknown"
    except (OSError, subprocess.TimeoutExpired):
        found["commit"] = "unknown"
    return found


_BEST = "best"  # folder inside a run folder


def is_best_of_a_run(path: pathlib.Path) -> bool:
    """Whether a folder is the one inside a run folder that holds the run's best policy; it is not a run itself."""
    return path.name == _BEST and (path.parent / "config.json").is_file()


class Run:
    """A run folder and the exclusive right to write it, until the object is closed or the process ends.

    Make one with `create`, or with `open` and, when nothing more can go wrong, `start`; use it as a context manager.

    Files: config.json, metrics.jsonl (a line per training iteration, always with "step" = environment steps so far),
    TensorBoard events, checkpoint.pt, result.json (only when the run is complete), .lock (names the process that writes), and,
    if the run was evaluated during training, best/, which holds the policy with the best evaluation.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.saved_step: int | None = None  # environment steps at the last checkpoint
        self._lock = _take_lock(path)
        self._files = contextlib.ExitStack()

    @classmethod
    def create(cls, path: pathlib.Path, config: Any) -> Run:
        """Create a run folder for `config`, a dataclass. A folder whose run was killed before its first checkpoint is reused.

        Raises:
            ValueError: the folder exists and holds anything else.
            RunError: another process writes to the folder.
        """
        _check_free(path)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        try:
            _check_free(path)  # now that nobody else can fill it
            run.start(config)
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, path: pathlib.Path) -> Run:
        """Open an existing run folder; its files are not changed before `start`.

        Raises:
            NoRunError: the folder is not a run folder.
            RunError: config.json is damaged, or another process writes to the folder.
        """
        read_saved(path)
        return cls(path)

    def start(self, config: Any, step: int = 0) -> None:
        """Begin to write after `step` environment steps. Metrics of later steps are deleted, since that work was lost.

        The run no longer counts as complete, and `config`, which may ask for more steps, replaces the old configuration.
        """
        content: dict[str, Any] = {"config": dataclasses.asdict(config), "versions": versions(), "written": time.time()}
        lines = [json.dumps(line) + "\n" for line in read_metrics(self.path) if line["step"] <= step]
        texts = {"config.json": json.dumps(content, indent=2), "metrics.jsonl": "".join(lines)}
        for file in list(self.path.iterdir()):
            worthless = _UNBORN.fullmatch(file.name) and file.name not in texts and not has_checkpoint(self.path)
            if file.is_dir() and worthless:
                shutil.rmtree(file)
            elif worthless or _PART.fullmatch(file.name):
                file.unlink()
        written = {name: write_beside(self.path / name, text) for name, text in texts.items()}
        (self.path / "result.json").unlink(missing_ok=True)
        for name, file in written.items():
            file.replace(self.path / name)
        self.saved_step = step if has_checkpoint(self.path) else None
        self._metrics = self._files.enter_context((self.path / "metrics.jsonl").open("a"))
        trackers = Trackers(content["config"].get("track", ()), self.path, content["config"], step + 1)
        self._trackers = self._files.enter_context(contextlib.closing(trackers))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write a line of metrics for `step` environment steps. Values that are NaN (nothing to report yet) are left out."""
        known = {name: float(value) for name, value in metrics.items() if value == value}
        with on_disk(self.path / "metrics.jsonl"):
            self._metrics.write(json.dumps({"step": step, **known}) + "\n")
            self._metrics.flush()
        self._trackers.add(step, known)

    def save(self, checkpoint: Mapping[str, Any]) -> None:
        """Replace the checkpoint, which may hold only tensors, numbers, strings, lists and dicts."""
        _write_checkpoint(self.path / "checkpoint.pt", checkpoint)
        self.saved_step = checkpoint["agent"]["step"]

    def save_best(self, checkpoint: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Write a policy and its result to the folder best/, which can be evaluated, watched and exported like a run."""
        best = self.path / _BEST
        write_whole(best / "config.json", (self.path / "config.json").read_text())
        _write_checkpoint(best / "checkpoint.pt", checkpoint)
        write_whole(best / "result.json", json.dumps(dict(result), indent=2))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json, which marks the run as complete."""
        write_whole(self.path / "result.json", json.dumps(dict(result), indent=2))
        for name in ("config.json", "result.json"):
            self._trackers.attach(self.path / name)

    def close(self) -> None:
        """Close the files and release the lock, so that other processes may write to the folder."""
        with contextlib.suppress(OSError):  # every line was flushed before
            self._files.close()
        self._lock.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        if isinstance(error, Exception) and self.saved_step is not None:
            error.add_note(
                f"the checkpoint of step {self.saved_step:,} is whole; go on from it with: "
                f"hadamem train --resume {shlex.quote(str(self.path))}"
            )


def _take_lock(path: pathlib.Path) -> IO[str]:
    """Lock a run folder until the returned file is closed or this process ends, even by a kill.

    Raises:
        RunError: another process has locked the folder.
    """
    file = (path / _LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise RunError(f"{path} is in use by {owner}, which trains in it; wait until it ends, or stop it first") from None
    except OSError as error:  # a file system that has no locks
        _log.warning("%s cannot be locked (%s): make sure that no other process trains in it", path, error)
    file.truncate(0)
    with on_disk(path / _LOCK):
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
    return file


def _check_free(path: pathlib.Path) -> None:
    """Raise a ValueError unless a folder is missing, empty, or left by a run that was killed before its first checkpoint."""
    names = {file.name for file in path.iterdir()} if path.exists() else set()
    free = all(name == _LOCK or _PART.fullmatch(name) or _UNBORN.fullmatch(name) for name in names)
    if free and "config.json" in names:
        try:
            read_saved(path)
        except ValueError:  # the config.json of something else
            free = False
    if not free or read_last_metrics(path) is not None:
        raise ValueError(f"{path} is not empty; give --out a new folder, or continue that run with --resume {path}")


def has_checkpoint(path: pathlib.Path) -> bool:
    """Whether a run folder has a checkpoint. If not, the run was killed before its first one, and resuming begins anew."""
    return (path / "checkpoint.pt").is_file()


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """The configuration of a run folder; see `read_saved`."""
    return read_saved(path).config


@dataclasses.dataclass(frozen=True)
class Saved:
    """The content of config.json in a run folder: the fields of its TrainConfig, and the versions of packages and machine."""

    config: dict[str, Any]
    versions: dict[str, str]


def read_saved(path: pathlib.Path) -> Saved:
    """Read config.json in a run folder.

    Raises:
        NoRunError: the folder is not a run folder.
        RunError: config.json is damaged.
    """
    file = path / "config.json"
    if not file.is_file():
        raise NoRunError(f"{path} is no run folder: it has no config.json. `hadamem train` prints the folder it made")
    try:
        saved = json.loads(file.read_text())
    except ValueError as error:
        raise RunError.damaged(file, f"it is no JSON ({error})") from error
    if not isinstance(saved, dict) or not {"config", "versions"} <= saved.keys():
        raise NoRunError(f"{path} is no run folder: its config.json is of something else")
    if not isinstance(saved["config"], dict) or not isinstance(saved["versions"], dict):
        raise RunError.damaged(file, "config and versions must be objects")
    return Saved(saved["config"], saved["versions"])


def read_checkpoint(path: pathlib.Path, device: str = "cpu") -> dict[str, Any]:
    """The checkpoint of a run folder: a dict with "agent" (which has "step" and "policy"), "random" and "seconds". Reading it
    never executes code from the file.

    Raises:
        RunError: there is no checkpoint yet, or it is damaged.
    """
    file = path / "checkpoint.pt"
    if not has_checkpoint(path):
        raise RunError(f"{path} has no checkpoint.pt: the run has not written one yet, or it was deleted")
    try:
        saved = torch.load(file, map_location=device, weights_only=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # torch raises many kinds of errors for damaged or foreign files
        raise RunError.damaged(file, f"it cannot be read as a checkpoint (weights_only): {first_line(error)}") from error
    parts = {"agent": dict, "random": list, "seconds": float}
    wrong = [name for name, kind in parts.items() if not isinstance(saved, dict) or not isinstance(saved.get(name), kind)]
    if not wrong:
        parts = {"step": int, "policy": dict}
        wrong = [name for name, kind in parts.items() if not isinstance(saved["agent"].get(name), kind)]
    if wrong:
        raise RunError.damaged(file, f"it is not the checkpoint of a run, since it has no {' and no '.join(wrong)}")
    return saved


def first_line(error: BaseException) -> str:
    """The first line of an error's message; of torch's message about a state_dict that does not fit, the first problem."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[1] if lines[0].startswith("Error(s) in loading") and len(lines) > 1 else lines[0]


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """The metrics of a run folder, a dict per line. A last line that was cut off by a kill is left out.

    Raises:
        RunError: another line is damaged.
    """
    file = path / "metrics.jsonl"
    if not file.exists():
        return []
    texts = file.read_bytes().splitlines()
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            if number < len(texts):
                raise RunError.damaged(file, f"line {number} is no JSON") from error
        else:
            _check_metrics(file, f"line {number}", lines[-1])
    return lines


def read_last_metrics(path: pathlib.Path) -> dict[str, Any] | None:
    """The last complete line of a run folder's metrics, without reading the whole file; None if there is no line yet.

    Raises:
        RunError: the line is damaged.
    """
    path = path / "metrics.jsonl"
    try:
        with path.open("rb") as file:
            file.seek(-min(file.seek(0, os.SEEK_END), _LONGEST_LINE), os.SEEK_END)
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            metrics = json.loads(line)
        except ValueError:  # a line cut off by a kill, or the first line read, whose beginning is missing
            continue
        _check_metrics(path, "its last line", metrics)
        return metrics
    return None


def _check_metrics(file: pathlib.Path, line: str, metrics: Any) -> None:
    """Raise a RunError unless a line of metrics is a dict of numbers, among them an integer "step"."""
    if not isinstance(metrics, dict) or type(metrics.get("step")) is not int:
        raise RunError.damaged(file, f'{line} must be an object with a whole number as "step"')
    for name, value in metrics.items():
        if type(value) not in (int, float):
            raise RunError.damaged(file, f"{line}: {name} must be a number")

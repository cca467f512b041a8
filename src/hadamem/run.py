"""A run is a folder: its configuration, metrics, checkpoint and result. Killed at any byte, it loses the work since the last
checkpoint and nothing else: files are written whole under another name, then renamed."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

_LONGEST_LINE = 8192  # of metrics, and the one after it, in bytes


def write_whole(path: pathlib.Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)


def read_lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics file; one that was cut by a kill is left out."""
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return


def versions() -> dict[str, str]:
    """What this run was made with."""
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


class NoRunError(ValueError):
    """A folder is not that of a run."""


class Run:
    """An open run folder. Make one with `create` or `resume`; use it as a context manager.

    Files: config.json, metrics.jsonl (a line per training iteration, always with "step" = environment steps so far),
    TensorBoard events, checkpoint.pt, result.json (only when the run is complete).
    """

    def __init__(self, path: pathlib.Path, step: int = 0) -> None:
        self.path = path
        self._metrics = (path / "metrics.jsonl").open("a")
        self._board = SummaryWriter(str(path), purge_step=step + 1 if step else None)  # it drops from there on

    @classmethod
    def create(cls, path: pathlib.Path, config: Any) -> Run:
        """A new folder for a dataclass `config`.

        Raises:
            ValueError: the folder exists and is not empty.
        """
        if path.exists() and any(path.iterdir()):
            raise ValueError(f"{path} is not empty; give --out a new folder, or continue that run with --resume {path}")
        path.mkdir(parents=True, exist_ok=True)
        _write_config(path, config)
        return cls(path)

    @classmethod
    def resume(cls, path: pathlib.Path, step: int, config: Any) -> Run:
        """Open an existing folder to go on after `step`: later lines of its metrics belong to work that was lost.

        It is no longer complete, and `config`, which may ask for more steps, takes the place of the old one.
        """
        (path / "result.json").unlink(missing_ok=True)
        _write_config(path, config)
        lines = [json.dumps(line) for line in read_lines(path / "metrics.jsonl") if line["step"] <= step]
        write_whole(path / "metrics.jsonl", "".join(line + "\n" for line in lines))
        return cls(path, step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of metrics after `step` environment steps. NaN (nothing to tell yet) is left out."""
        told = {name: float(value) for name, value in metrics.items() if value == value}
        self._metrics.write(json.dumps({"step": step, **told}) + "\n")
        self._metrics.flush()
        for name, value in told.items():
            self._board.add_scalar(name, value, step)

    def save(self, checkpoint: Mapping[str, Any]) -> None:
        """Replace the checkpoint. Tensors, numbers, strings, lists and dicts only."""
        new = self.path / ".checkpoint.new"
        torch.save(dict(checkpoint), new)
        new.replace(self.path / "checkpoint.pt")

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result: the mark of a complete run."""
        write_whole(self.path / "result.json", json.dumps(dict(result), indent=2))

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._metrics.close()
        self._board.close()


def _write_config(path: pathlib.Path, config: Any) -> None:
    content = {"config": dataclasses.asdict(config), "versions": versions(), "written": time.time()}
    write_whole(path / "config.json", json.dumps(content, indent=2))


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """The configuration of a run folder; see `read_saved`."""
    return read_saved(path)["config"]


def read_saved(path: pathlib.Path) -> dict[str, Any]:
    """What is in the config.json of a run folder: "config", "versions" and the time it was "written".

    Raises:
        NoRunError: it is no run folder.
    """
    file = path / "config.json"
    if not file.is_file():
        raise NoRunError(f"{path} is no run folder: it has no config.json. `hadamem train` prints the folder it made")
    try:
        saved = json.loads(file.read_text())
    except json.JSONDecodeError:
        saved = None
    if not isinstance(saved, dict) or not {"config", "versions"} <= saved.keys():
        raise NoRunError(f"{path} is no run folder: its config.json is of something else")
    return saved


def read_checkpoint(path: pathlib.Path, device: str = "cpu") -> dict[str, Any]:
    """The checkpoint of a run folder; reading it never runs code.

    Raises:
        ValueError: there is none yet.
    """
    file = path / "checkpoint.pt"
    if not file.is_file():
        raise ValueError(f"{path} has no checkpoint.pt: the run was stopped before its first one; start it anew")
    try:
        return torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # whatever a damaged or foreign file makes torch say
        raise ValueError(f"{file} cannot be read as a checkpoint (weights_only): {error}") from error


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """The metrics of a run folder, a dict per line."""
    return list(read_lines(path / "metrics.jsonl"))


def read_last_metrics(path: pathlib.Path) -> dict[str, Any] | None:
    """The last whole line of the metrics of a run folder, without reading the others; None if there is none yet."""
    try:
        with (path / "metrics.jsonl").open("rb") as file:
            file.seek(-min(file.seek(0, os.SEEK_END), _LONGEST_LINE), os.SEEK_END)
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            return json.loads(line)
        except ValueError:  # cut by a kill, or by the beginning of what was read
            continue
    return None

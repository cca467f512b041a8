"""Cells: parts of a study that are measured one by one, in a fresh process with limits if wanted, and kept as JSON."""

from __future__ import annotations

import importlib
import json
import math
import pathlib
import re
import sys
import typing
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, TypeVar

import torch

from ..measure import OverLimitError, in_fresh_process
from ..options import read_json
from .base import cached_json

_T = TypeVar("_T")

_START = 30.0  # seconds that a process may take to start, in addition to its limit


@dataclass(frozen=True)
class Limits:
    """Limits of time and memory for a cell.

    Attributes:
        seconds: wall time in seconds.
        megabytes: resident memory of the whole process in megabytes.
    """

    seconds: float = math.inf
    megabytes: float = math.inf


@dataclass(frozen=True)
class Stopped:
    """The result of a cell that was stopped because it exceeded a limit; `stopped` is "time" or "memory"."""

    stopped: str


def measure_cached(
    folder: pathlib.Path, measure: Callable[..., _T], *arguments: Any, limits: Limits | None = None
) -> _T | Stopped:
    """The result of measure(*arguments), read from the folder if it was measured with the same arguments before.

    Args:
        folder: folder of the results, with a file for each cell.
        measure: a function of a module; its result is kept as JSON, and read as its annotated return type (see `read_json`).
        arguments: arguments of `measure`, which JSON must be able to represent.
        limits: limits of the cell's own process; None: the cell runs in this process, without limits.

    Returns:
        The result, or a `Stopped` if the cell exceeded a limit.
    """
    asked = json.dumps(arguments)
    file = folder / f"{measure.__name__}-{re.sub(r'[^A-Za-z0-9.]+', '_', asked).strip('_')}.json"
    found = cached_json(file, lambda: _measured(measure, asked, limits))
    if isinstance(found, dict) and found.keys() == {"stopped"}:
        return Stopped(**found)
    return read_json(typing.get_type_hints(measure)["return"], found)


def _measured(measure: Callable[..., Any], asked: str, limits: Limits | None) -> Any:
    if limits is None:
        return _plain(measure(*json.loads(asked)))
    try:
        return in_fresh_process(
            __name__,
            measure.__module__,
            measure.__name__,
            asked,
            environment={"OMP_NUM_THREADS": str(torch.get_num_threads())},
            seconds=limits.seconds + _START,
            megabytes=limits.megabytes,
        )
    except OverLimitError as over:
        return asdict(Stopped(over.limit))


def _plain(result: Any) -> Any:
    return asdict(result) if is_dataclass(result) and not isinstance(result, type) else result


if __name__ == "__main__":
    module, name, asked = sys.argv[1:]
    print(json.dumps(_plain(getattr(importlib.import_module(module), name)(*json.loads(asked)))))

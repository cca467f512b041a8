"""The parts of a study that are measured one by one: each in a fresh process, under limits, and kept as JSON."""

from __future__ import annotations

import importlib
import json
import math
import pathlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..measure import OverLimitError, in_fresh_process
from .base import cached_json

_START = 30.0  # seconds that a process may take before it begins


@dataclass(frozen=True)
class Limits:
    """What a cell may use.

    Attributes:
        seconds: of wall time.
        megabytes: of memory, all that the process holds.
    """

    seconds: float = math.inf
    megabytes: float = math.inf


def measure_cached(
    folder: pathlib.Path, measure: Callable[..., dict[str, Any]], *arguments: Any, limits: Limits | None = None
) -> dict[str, Any]:
    """measure(*arguments), or what it gave when it was asked the same before.

    Args:
        folder: where results are kept, a file for each cell.
        measure: a function of a module, which gives what JSON can hold.
        arguments: what JSON can hold.
        limits: of its own process; none: it runs here.

    Returns:
        What it gave, or {"stopped": "time"} or {"stopped": "memory"} where it went over its limits.
    """
    asked = json.dumps(arguments)
    file = folder / f"{measure.__name__}-{re.sub(r'[^A-Za-z0-9.]+', '_', asked).strip('_')}.json"
    return cached_json(file, lambda: _measured(measure, asked, limits))


def _measured(measure: Callable[..., dict[str, Any]], asked: str, limits: Limits | None) -> dict[str, Any]:
    if limits is None:
        return measure(*json.loads(asked))
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
        return {"stopped": over.limit}


if __name__ == "__main__":
    module, name, asked = sys.argv[1:]
    print(json.dumps(getattr(importlib.import_module(module), name)(*json.loads(asked))))

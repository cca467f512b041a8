"""Suites: tasks with their steps, and the memories to compare on them. Those of hadamem are the files in suites/."""

from __future__ import annotations

import pathlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

FOLDER = pathlib.Path(__file__).parent / "suites"
NAMES = tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


@dataclass(frozen=True)
class Suite:
    """Tasks to train on.

    Attributes:
        about: what they are, in a line.
        memories: to compare where no others are asked for, each "NAME[:SIZE] option=value ...".
        steps: environment steps of each task, "ID option=value ...".
    """

    about: str
    memories: Sequence[str]
    steps: dict[str, int]


def read_suite(name: str) -> Suite:
    """A suite by its name or its file.

    Raises:
        ValueError: there is neither, or the file is no suite.
    """
    file = FOLDER / f"{name}.toml" if name in NAMES else pathlib.Path(name)
    if not file.is_file():
        raise ValueError(f"suite is {name!r}; it must be one of {', '.join(NAMES)}, or a TOML file, see {FOLDER}")
    try:
        suite = Suite(**tomllib.loads(file.read_text()))
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise ValueError(f"{file} must set about, memories and a table [steps]: {error}") from error
    for task, steps in suite.steps.items():
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps of {task!r} in {file} is {steps!r}; it must be a whole number of at least 1")
    return suite

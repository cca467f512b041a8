"""Suites: tasks with their steps, and the memories to compare on them. The suites of hadamem are the files in suites/."""

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
        about: description of the tasks, in one line.
        memories: default memories to compare, each as "NAME[:SIZE] option=value ...".
        steps: environment steps to train for, by task as "ID option=value ...".
    """

    about: str
    memories: Sequence[str]
    steps: dict[str, int]


def read_suite(name: str) -> Suite:
    """Read a suite, given by its name or its file.

    Raises:
        ValueError: there is no such suite or file, or the file is not a suite.
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

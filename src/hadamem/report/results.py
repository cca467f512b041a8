"""The result of a run: its configuration, scores and learning curves. It is read from a run folder, or from a JSON file of a
few kB that holds the result of such a folder."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import logging
import math
import pathlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..agents.config import OF_THE_MACHINE, config_from_dict
from ..disk import write_whole
from ..options import read_json
from ..run import NoRunError, RunError, Saved, is_best_of_a_run, read_last_metrics, read_metrics, read_saved

_log = logging.getLogger("hadamem")

METRICS = ("return", "success", "evaluation_return", "evaluation_success")
#: ending of the names of files of results
ENDING = ".run.json"
#: last part of the steps, over which a score is the mean
TAIL = 0.05
_POINTS = 200  # most points of a curve; each is the mean of the iterations after the previous one

_OPTIONS = ("env_options", "evaluate_options", "memory_options")  # fields of name=value, in any order


@dataclass(frozen=True)
class _Common:
    """The fields of a configuration that are read here and in reports; configurations of all versions must have them."""

    env: str
    env_options: tuple[str, ...]
    agent: str
    memory: str
    memory_size: int | None
    memory_options: tuple[str, ...]
    steps: int
    seed: int
    device: str
    threads: int | None


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        path: folder or file of the run, as text.
        config: the fields of TrainConfig.
        versions: versions of the packages that trained it, and facts about the machine.
        complete: whether all its steps were trained.
        steps: environment steps so far.
        seconds: seconds of training so far.
        curves: for each of METRICS that the run has, its (step, value) points.
        scores: for each of them, the mean over the last 5 % of the steps; from `peek_result`, the latest value.
    """

    path: str
    config: dict[str, Any]
    versions: dict[str, str]
    complete: bool
    steps: int
    seconds: float
    curves: dict[str, list[tuple[float, float]]]
    scores: dict[str, float]

    @property
    def task(self) -> str:
        """Name and options of the task."""
        return " ".join([self.config["env"].removesuffix("-v0"), *self.config["env_options"]])

    @property
    def memory(self) -> str:
        """Name, size and options of the memory, with the agent in brackets unless it is PPO."""
        size = self.config["memory_size"]
        words = [self.config["memory"], *([str(size)] if size else []), *self.config["memory_options"]]
        return " ".join(words if self.config["agent"] == "ppo" else [*words, f"({self.config['agent']})"])

    @property
    def seed(self) -> int:
        """Seed of all random generators."""
        return self.config["seed"]

    @property
    def key(self) -> str:
        """A text that is equal for two runs that would learn the same."""
        return config_key(self.config)


def config_key(config: dict[str, Any]) -> str:
    """A text that tells a configuration (the fields of a TrainConfig) from all configurations that would learn something else.

    Missing fields, which are newer than the configuration, count as their defaults; 30 is equal to 30.0; and the order of
    options does not matter.
    """
    with contextlib.suppress(ValueError):  # a configuration with fields or values that no longer exist stays as it is
        config = asdict(config_from_dict(config))
    config = config | {name: _in_order(config[name]) for name in _OPTIONS if name in config}
    text = json.dumps({name: value for name, value in config.items() if name not in OF_THE_MACHINE})
    return json.dumps(json.loads(text, parse_float=_number), sort_keys=True)


def _in_order(options: Iterable[str]) -> list[str]:
    """Options name=value, sorted by name; if a name occurs twice, the last option counts."""
    return [text for _, text in sorted({text.partition("=")[0]: text for text in options}.items())]


def matches(patterns: Iterable[str], *texts: str) -> bool:
    """Whether one of the patterns, in which * stands for any characters, matches one of the texts."""
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns for text in texts)


def _number(text: str) -> float:
    return int(number) if (number := float(text)).is_integer() else number


def read_result(path: pathlib.Path) -> Result:
    """The result of a run folder, complete or not, or of a file that `write_result` wrote.

    Raises:
        NoRunError: the path is neither of them.
        RunError: the folder or file is damaged.
    """
    if path.is_file():
        try:
            result = read_json(Result, {**json.loads(path.read_text()), "path": str(path)})
        except (TypeError, ValueError) as error:
            raise RunError.damaged(path, f"it is not the result of a run ({error})") from error
        _check_config(result.config, path)
        return result
    saved = read_saved(path)
    _check_config(saved.config, path / "config.json")
    lines = read_metrics(path)
    curves = {name: _curve(lines, name) for name in METRICS if any(name in line for line in lines)}
    last: dict[str, Any] = lines[-1] if lines else {"step": 0}
    tail = [line for line in lines if line["step"] > (1 - TAIL) * last["step"]]
    scores = {name: value for name in curves if (value := mean_of(tail or lines, name)) == value}
    for name in curves.keys() - scores.keys():  # metrics of evaluations before the last steps only
        scores[name] = curves[name][-1][1]
    return _result(path, saved, last, curves, scores)


def peek_result(path: pathlib.Path) -> Result:
    """Like `read_result`, but faster: for a run folder, without curves, and with the latest metrics as scores."""
    if path.is_file():
        return read_result(path)
    saved = read_saved(path)
    _check_config(saved.config, path / "config.json")
    last = read_last_metrics(path) or {"step": 0}
    return _result(path, saved, last, {}, {name: last[name] for name in METRICS if name in last})


def _result(
    path: pathlib.Path,
    saved: Saved,
    last: dict[str, Any],
    curves: dict[str, list[tuple[float, float]]],
    scores: dict[str, float],
) -> Result:
    complete, seconds = (path / "result.json").exists(), last.get("seconds", 0.0)
    return Result(str(path), saved.config, saved.versions, complete, last["step"], seconds, curves, scores)


def _check_config(config: dict[str, Any], file: pathlib.Path) -> None:
    """Raise a RunError unless a configuration has the fields of `_Common`, with their types. Other fields may be any."""
    try:
        read_json(_Common, {field.name: config[field.name] for field in fields(_Common) if field.name in config})
    except ValueError as error:
        raise RunError.damaged(file, error) from error


def write_result(result: Result, path: pathlib.Path) -> None:
    """Write a result to a file of a few kB."""
    curves = {name: [(step, round(value, 5)) for step, value in points] for name, points in result.curves.items()}
    content = {name: value for name, value in asdict(result).items() if name != "path"}
    write_whole(path, json.dumps(content | {"curves": curves}) + "\n")


def find_results(paths: Iterable[pathlib.Path], read: Callable[[pathlib.Path], Result] = read_result) -> list[Result]:
    """Every result in or under the paths, which may be run folders, files of results, or folders of either.

    Runs and files that cannot be read are left out, with a warning.

    Raises:
        NoRunError, RunError, OSError: a run or file cannot be read, and no other result was found.
    """
    results: list[Result] = []
    problems: list[ValueError | OSError] = []
    for path in paths:
        found = [path]
        if path.is_dir() and not (path / "config.json").is_file():
            folders = [file.parent for file in sorted(path.rglob("config.json")) if not is_best_of_a_run(file.parent)]
            found = [*folders, *sorted(path.rglob(f"*{ENDING}"))]
        for file in found:
            try:
                results.append(read(file))
            except (RunError, OSError) as error:
                problems.append(error)
            except NoRunError as error:
                if file == path:  # files of other programs are called config.json, too
                    problems.append(error)
    if problems and not results:
        raise problems[0]
    for problem in problems:
        _log.warning("left out: %s", problem)
    return results


def say_if_unfinished(path: pathlib.Path) -> None:
    """Warn that the run whose policy is going to be played has not made all its steps."""
    result = peek_result(path)
    if not result.complete:
        steps = f"{result.steps:,} of its {result.config['steps']:,} steps"
        _log.warning("this run is not finished: it has made %s, and its last checkpoint is played", steps)


def _curve(lines: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    groups = neighbours([line for line in lines if name in line])
    return [(round(mean_of(group, "step")), mean_of(group, name)) for group in groups]


def neighbours(lines: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Lines of metrics in at most 200 groups, one for each point of a curve."""
    width = math.ceil(len(lines) / _POINTS)
    return [lines[i : i + width] for i in range(0, len(lines), width)]


def mean_of(lines: list[dict[str, Any]], name: str) -> float:
    """The mean of a metric over the lines that have it; NaN if no line has it."""
    values = [line[name] for line in lines if name in line]
    return sum(values) / len(values) if values else math.nan

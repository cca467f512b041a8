"""A standing campaign: seeded tries to break hadamem, by kind. `make faults` runs the long version.

A try is a function of a seed and an empty folder that returns None, or what went wrong in a sentence. It is repeated by

    python tests/faults/campaign.py --kinds spaces --seed 1234 --tries 1
"""

from __future__ import annotations

import argparse
import logging
import pathlib
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import fault_folders
import fault_kills
import fault_modules
import fault_spaces
import torch

from hadamem.text import markdown_table

Try = Callable[[int, pathlib.Path], str | None]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        about: what is tried.
        run: one try.
        share: of all tries.
    """

    about: str
    run: Try
    share: float


KINDS = {
    "modules": Kind("a memory in other people's PyTorch code: transforms, copies, wrong states", fault_modules.run, 0.48),
    "spaces": Kind("random nested spaces of observations and actions, with masks; values outside them", fault_spaces.run, 0.3),
    "folders": Kind("a run folder cut short, with flipped bytes, without files; every command on it", fault_folders.run, 0.15),
    "kills": Kind("a training killed at a random moment by a random signal, then resumed", fault_kills.run, 0.07),
}


def attempt(kind: str, seed: int) -> str | None:
    """One try; an exception that it lets through is a failure, too."""
    torch.set_num_threads(1)
    log = logging.getLogger("hadamem")
    level = log.level
    with tempfile.TemporaryDirectory(prefix="fault-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL)
        try:
            return KINDS[kind].run(seed, pathlib.Path(folder))
        except Exception:
            return traceback.format_exc()
        finally:
            log.setLevel(level)


def attempts(kind: str, seeds: Sequence[int]) -> list[tuple[int, str]]:
    """The failures of some tries, each with its seed."""
    return [(seed, problem) for seed in seeds if (problem := attempt(kind, seed)) is not None]


def campaign(
    tries: int, seed: int, minutes: float, jobs: int, kinds: Sequence[str]
) -> tuple[list[dict[str, object]], list[str]]:
    """Rows of a table by kind, and what failed."""
    total = sum(KINDS[kind].share for kind in kinds)
    work = []
    for kind in kinds:
        count = max(1, round(tries * KINDS[kind].share / total))
        seeds = range(seed, seed + count)
        work += [(kind, seeds[i : i + 20]) for i in range(0, count, 20)]
    made, failed = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
    seconds = dict.fromkeys(kinds, 0.0)
    failures: list[str] = []
    begin = said = time.monotonic()
    with ProcessPoolExecutor(jobs) as pool:
        running = {pool.submit(_timed, kind, seeds): (kind, seeds) for kind, seeds in work}
        for done in as_completed(running):
            kind, seeds = running[done]
            if done.cancelled():
                continue
            problems, took = done.result()
            made[kind] += len(seeds)
            failed[kind] += len(problems)
            seconds[kind] += took
            failures += [f"{kind}, seed {number}: {problem}" for number, problem in problems]
            if time.monotonic() - begin > 60 * minutes:
                for other in running:
                    other.cancel()
            if time.monotonic() - said > 10:
                said = time.monotonic()
                print(f"{sum(made.values()):,} of {tries:,} tries, {len(failures)} failures", file=sys.stderr, flush=True)
    rows = [
        {
            "kind": kind,
            "what": KINDS[kind].about,
            "tries": made[kind],
            "failures": failed[kind],
            "seconds": round(seconds[kind]),
        }
        for kind in kinds
    ]
    return rows, failures


def _timed(kind: str, seeds: Sequence[int]) -> tuple[list[tuple[int, str]], float]:
    begin = time.monotonic()
    return attempts(kind, seeds), time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=2200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30.0, help="begin no more tries after so long")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    given = parser.parse_args()
    rows, failures = campaign(given.tries, given.seed, given.minutes, given.jobs, given.kinds)
    for failure in failures:
        print(failure, file=sys.stderr)
    print(markdown_table(rows))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()

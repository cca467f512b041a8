"""The speed of training on a machine with other work to do, which is simulated by busy processes, called neighbours.

`python -m hadamem.bench.contention '{"memory": "shm", "size": 32, ...}'` makes one measurement and prints it as JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from ..agents.making import make_agent
from ..agents.training import threads_of
from ..measure import in_fresh_process, processors
from .train import ppo_on_one_task

CASES = (("shm", 32), ("shm", 128), ("gru", 128))
NEIGHBOURS = (0, 1, 2, 4)
#: The program of a neighbour, which ends after the process that started it.
_SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(10**6): pass"


@dataclass(frozen=True)
class Case:
    """The settings of one measurement; `threads` None: the default number of threads."""

    memory: str
    size: int
    threads: int | None
    neighbours: int
    seconds: float


@dataclass(frozen=True)
class Row:
    """The result of one measurement.

    Attributes:
        memory, size, neighbours: those of the case.
        threads: "1", "all", or "default" with the largest number that it uses.
        steps_per_s: environment steps per second.
        fair_share: `steps_per_s` relative to a fair speed: the speed with the same threads and no neighbours, reduced as if all
            threads, those of the training and the neighbours, got equal shares of the processors.
    """

    memory: str
    size: int
    threads: str
    neighbours: int
    steps_per_s: float
    fair_share: float


def measure(case: Case) -> tuple[float, int]:
    """Measure a case; returns the environment steps per second and the number of threads."""
    config, env = ppo_on_one_task(case.memory, case.size)
    agent = make_agent(config, env)
    neighbours = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(case.neighbours)]
    try:
        with threads_of(replace(config, threads=case.threads), agent.policy) as threads:
            agent.iterate()
            first, begin = agent.step, time.perf_counter()
            while time.perf_counter() - begin < case.seconds:
                agent.iterate()
            return (agent.step - first) / (time.perf_counter() - begin), threads
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
        env.close()


def measure_all(
    on_progress: Callable[[str], None],
    cases: Sequence[tuple[str, int]] = CASES,
    settings: Sequence[str] = ("1", "all", "default"),
    neighbours: Sequence[int] = NEIGHBOURS,
    seconds: float = 8.0,
    rounds: int = 1,
) -> list[Row]:
    """Measure all memories, numbers of threads and numbers of neighbours (always including 0), each in a process of its own,
    once in every round; the rows are the medians over rounds."""
    here = processors()
    numbers = {"1": 1, "all": here, "default": None}
    results = {
        (name, Case(memory, size, numbers[name], count, seconds)): list[dict[str, float]]()
        for memory, size in cases
        for name in settings
        for count in (0, *neighbours)
    }
    for at in range(rounds):
        for (name, case), found in results.items():
            on_progress(
                f"round {at + 1} of {rounds}: {case.memory} of size {case.size}, threads {name}, neighbours {case.neighbours}"
            )
            found.append(in_fresh_process(__name__, json.dumps(asdict(case))))
    speeds = {key: statistics.median(one["steps_per_s"] for one in found) for key, found in results.items()}
    rows = []
    for (name, case), found in results.items():
        speed, alone, used = speeds[name, case], speeds[name, replace(case, neighbours=0)], int(found[0]["threads"])
        fair = alone * min(1.0, here / (used + case.neighbours))
        label = f"default ({used})" if name == "default" else name
        rows.append(Row(case.memory, case.size, label, case.neighbours, speed, speed / fair))
    return rows


if __name__ == "__main__":
    made = measure(Case(**json.loads(sys.argv[1])))
    print(json.dumps({"steps_per_s": made[0], "threads": made[1]}))

"""How torch's threads wait for work.

Between two operators, the threads of torch's OpenMP team wait in a loop, on Linux for up to 300,000 rounds by default. A thread
that loops uses up its share of a busy processor; then it is interrupted, where all the others wait for it, again and again:
beside a single other program, training on two processors was up to fifty times slower than alone (`hadamem bench contention`).
A thread that sleeps is woken at once. So threads loop for 5,000 rounds, and then sleep.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_ROUNDS = "5000"  # with fewer, training on an idle machine is slower; with more, on a busy one


@contextmanager
def sleeping_soon() -> Iterator[None]:
    """Context in which torch, if it is imported there for the first time, gets threads that loop for a short time only.

    Only libgomp reads this setting, which is torch's OpenMP library on Linux, once, when it is loaded. The user's own settings
    of how threads wait come first. The environment is afterwards as it was.
    """
    if "torch" in sys.modules or not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}.isdisjoint(os.environ):
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = _ROUNDS
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]

"""Shared by all tests: one thread per process, since pytest-xdist runs several, the same draws in every run, and NaN in
uninitialised memory."""

import functools
import itertools
import os
import pathlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from gymnasium.utils import seeding

from hadamem.ops import threads
from hadamem.ops.hadamard import cpu_kernels
from hadamem.ops.hadamard.cpu_parts import KINDS

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first: the other worker steals the short ones, and neither is left alone with a long one at the end."""
    items.sort(key=lambda item: not item.path.name.startswith("test_docs"))
    if len(items) > 1000 and hasattr(config, "workerinput"):
        _compile_kernels(config.workerinput)


def _compile_kernels(worker: dict[str, Any]) -> None:
    """Compile a share of the kernels, and wait until the other workers have compiled theirs: each kernel is compiled once, and
    found in the cache by all."""
    kernels = [functools.partial(cpu_kernels.regions, kind) for kind in KINDS.values()]
    names = [f"gw{n}" for n in range(worker["workercount"])]
    for kernel in kernels[names.index(worker["workerid"]) :: len(names)]:
        kernel()
    done = {name: pathlib.Path(tempfile.gettempdir(), f"hadamem-{worker['testrunuid']}-{name}") for name in names}
    done[worker["workerid"]].touch()
    last = time.monotonic() + 120
    while time.monotonic() < last and not all(file.exists() for file in done.values()):
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def _seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's draws, and those of spaces and environments that a test gives no seed, are the same in every run."""
    torch.manual_seed(0)
    seeds, np_random = itertools.count(), seeding.np_random
    monkeypatch.setattr(seeding, "np_random", lambda seed=None: np_random(next(seeds) if seed is None else seed))


@pytest.fixture
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.empty gives NaN, so that whatever a kernel forgets to write is seen; so does the scratch kept from before."""
    monkeypatch.setattr(threads, "_scratch", threading.local())
    before = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before)
    torch.utils.deterministic.fill_uninitialized_memory = fill


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright; without either, what asks for it is skipped."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("there is no chromium, chromium-browser or google-chrome on this machine")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()

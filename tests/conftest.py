"""Shared by all tests: one thread per process, since pytest-xdist runs several, the same draws in every run, and NaN in
uninitialised memory."""

import itertools
import os
import shutil
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: the other worker steals the short ones, and neither is left alone with a long one at the end."""
    items.sort(key=lambda item: not item.path.name.startswith("test_docs"))


@pytest.fixture(scope="session", autouse=True)
def _compile_kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each of several workers compiles a share of the kernels, and waits until the others have compiled theirs: each kernel is
    compiled once, and found in the cache by all."""
    if len(request.session.items) < 1000 or not hasattr(request.config, "workerinput"):
        return
    worker = request.config.workerinput
    names = [f"gw{n}" for n in range(worker["workercount"])]
    for kind in list(KINDS.values())[names.index(worker["workerid"]) :: len(names)]:
        cpu_kernels.regions(kind)
    done = {name: tmp_path_factory.getbasetemp().parent / f"{name}-has-compiled" for name in names}
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

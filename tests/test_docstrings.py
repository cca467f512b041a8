"""Examples in docstrings."""

import doctest
import importlib

import pytest

from hadamem.agents.progress import Progress


@pytest.mark.parametrize("module", ["agent", "envs.make", "memory.shm", "ops.hadamard"])
def test_examples_run(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "show", lambda self: None)  # its lines come now and then
    result = doctest.testmod(importlib.import_module(f"hadamem.{module}"))
    assert result.attempted
    assert not result.failed

"""Processes side by side."""

from __future__ import annotations

import pathlib

import pytest

from hadamem.bench.measure import side_by_side

PROGRAM = """import json, os, sys
assert sys.argv[1] != "bad", "bad name"
print("a line before")
print(json.dumps({"name": sys.argv[1], "rest": sys.argv[2:], "threads": os.environ["OMP_NUM_THREADS"]}))
"""


def test_results_are_in_order_and_failures_are_told(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    said: list[str] = []
    rows = side_by_side(str(program), ["a", "b", "c"], 2, said.append, 7)
    assert rows == [{"name": name, "rest": ["7"], "threads": "1"} for name in "abc"]
    assert said[-1].startswith("3 of 3")
    with pytest.raises(RuntimeError, match="bad name"):
        side_by_side(str(program), ["a", "bad"], 1, said.append)
    with pytest.raises(ValueError, match="jobs is 0"):
        side_by_side(str(program), ["a"], 0, said.append)

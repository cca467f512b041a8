"""Processes side by side."""

from __future__ import annotations

import pathlib

import pytest

from hadamem.measure import OverLimitError, in_fresh_process, side_by_side

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


@pytest.mark.parametrize(("limits", "limit"), [({"seconds": 0.0}, "time"), ({"megabytes": 1.0}, "memory")])
def test_a_process_is_stopped_at_its_limit(tmp_path: pathlib.Path, limits: dict[str, float], limit: str) -> None:
    program = tmp_path / "program.py"
    program.write_text("import time; time.sleep(60)")
    with pytest.raises(OverLimitError) as stopped:
        in_fresh_process(str(program), **limits)  # type: ignore[arg-type]
    assert stopped.value.limit == limit

"""The study of scaling: what it counts, and what it leaves out."""

from __future__ import annotations

import math
import pathlib
from dataclasses import replace

import pytest

from hadamem.studies import scaling


@pytest.mark.parametrize("T", [1, 2, 3, 7, 64, 100, 65536])
def test_the_scan_is_of_logarithmic_depth(T: int) -> None:
    assert math.ceil(math.log2(T)) <= scaling.depth("parallel", T) <= 2 * math.log2(T) + 1
    assert scaling.depth("reference", T) == scaling.depth("cpu", T) == T


def test_what_is_over_the_limit_is_left_out_and_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = scaling.trial

    def trial(name: str, way: str, T: int, seed: int) -> scaling.Trial:
        long = name == "reference" and way == "both" and T >= 8
        return replace(measured(name, way, T, seed), **({"seconds": 1e9} if long else {}))

    monkeypatch.setattr(scaling, "trial", trial)
    findings = scaling.run("tiny", tmp_path, lambda _: None, 0)
    left_out = [row.T for row in findings.rows if row.backend == "reference" and row.both_ms is None]
    assert left_out == [8, 16]
    assert "reference (both ways) from T = 8 on, for want of time" in findings.notes[-1]

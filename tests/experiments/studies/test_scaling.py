"""The study of scaling: what it counts and fits, and that every backend learns the same."""

from __future__ import annotations

import math
import pathlib

import pytest

from hadamem.experiments.studies import scaling
from hadamem.experiments.studies.base import write_findings


def test_tiny(tmp_path: pathlib.Path) -> None:
    size = scaling.SIZES["tiny"]
    findings = scaling.STUDY.run("tiny", tmp_path / "work", lambda _: None, 0)
    names = {row["backend"] for row in findings.rows}
    assert names >= {"reference", "parallel", "cpu"}
    assert len(findings.rows) == len(names) * len(size.lengths)
    assert all(row["forward, ms"] > 0 and row["both ways, exponent"] is not None for row in findings.rows)
    assert len(findings.conclusion) == 3
    write_findings("scaling", "a command", findings, tmp_path)
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


@pytest.mark.parametrize("T", [1, 2, 3, 7, 64, 100, 65536])
def test_the_scan_is_of_logarithmic_depth(T: int) -> None:
    assert math.ceil(math.log2(T)) <= scaling.depth("parallel", T) <= 2 * math.log2(T) + 1
    assert scaling.depth("reference", T) == scaling.depth("cpu", T) == T


def test_the_exponent_of_a_power_law() -> None:
    lengths = [64, 256, 1024, 4096]
    assert scaling.exponent(lengths, [3 * T**1.5 for T in lengths]) == pytest.approx(1.5)
    assert scaling.exponent(lengths, [9.0, *[float(T) for T in lengths[1:]]]) == pytest.approx(1)  # the shortest is left out
    assert scaling.exponent(lengths, [1.0, 2.0, None, None]) is None


def test_what_is_over_the_limit_is_left_out_and_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = scaling.trial

    def trial(name: str, way: str, T: int, seed: int) -> dict[str, object]:
        long = name == "reference" and way == "both" and T >= 8
        return measured(name, way, T, seed) | ({"seconds": 1e9} if long else {})

    monkeypatch.setattr(scaling, "trial", trial)
    findings = scaling.run("tiny", tmp_path, lambda _: None, 0)
    left_out = [row["T"] for row in findings.rows if row["backend"] == "reference" and row["both ways, ms"] is None]
    assert left_out == [8, 16]
    assert "reference (both ways) from T = 8 on, for want of time" in findings.notes[-1]


def test_every_backend_learns_the_same_curve() -> None:
    curves = {backend: scaling.learning(backend, 4, 0) for backend in ("reference", "parallel", "cpu")}
    for backend in ("parallel", "cpu"):
        for name, values in curves["reference"].items():
            assert curves[backend][name] == pytest.approx(values, rel=1e-3, abs=1e-5, nan_ok=True)
    assert len(set(curves["cpu"]["value_loss"])) == 4  # they do learn

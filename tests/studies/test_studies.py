"""Every study runs with its tiny budget; its sentences come from its rows; finished parts are not measured again."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hadamem.studies import STUDIES, ablation, base, capacity, load_study, scaling
from hadamem.text import columns


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_ends_in_rows_a_picture_and_three_sentences(name, tmp_path):
    findings = load_study(name).run("tiny", tmp_path / "work", lambda text: None, 0)
    assert len(findings.conclusion) == 3
    assert all(sentence.endswith(".") for sentence in findings.conclusion)
    assert len({tuple(columns(row)) for row in findings.rows}) == 1
    base.write_findings(name, f"hadamem study {name}", findings, tmp_path)
    plt.close("all")
    assert {file.suffix for file in tmp_path.glob(f"{name}.*")} == {".json", ".png", ".pdf", ".md"}
    page = (tmp_path / f"{name}.md").read_text()
    assert findings.conclusion[0] in page
    assert json.loads((tmp_path / f"{name}.json").read_text())["versions"]["torch"]


def test_an_unknown_study_is_told_with_those_there_are():
    with pytest.raises(ValueError, match=r"did you mean stability.*ablation"):
        load_study("stabilty")


def test_what_is_kept_is_not_made_again(tmp_path):
    made = []
    for _ in range(2):
        assert base.cached_json(tmp_path / "part.json", lambda: made.append(1) or [1, 2]) == [1, 2]
    assert made == [1]


def test_exponent_of_a_power_law():
    lengths = [4, 8, 16, 32, 64]
    assert scaling.exponent(lengths, [3.0 * T**1.5 for T in lengths]) == pytest.approx(1.5)
    assert scaling.exponent(lengths, [1.0, 2.0, None, None, None]) is None


def test_depth_of_the_scan_is_logarithmic_and_that_of_the_kernels_is_not():
    assert scaling.depth("cpu", 1024) == 1024
    assert scaling.depth("parallel", 1024) <= 2 * np.log2(1024)


def test_ppo_learns_the_same_with_each_backend():
    """Means over 40 gradient steps. (Of a second rollout, other roundings make another draw: even the number of threads.)"""
    curves = [scaling.learning(backend, 1, seed=0) for backend in ("reference", "parallel", "cpu")]
    for other in curves[1:]:
        for name, values in curves[0].items():
            np.testing.assert_allclose(other[name], values, rtol=1e-3, atol=1e-4, equal_nan=True)


def test_capacity_names_the_best_and_what_is_held():
    rows = capacity.table({("shm", 8): [[1.0, 0.5], [0.9, 0.3]], ("gla", 8): [[0.3, 0.2], [0.5, 0.2]]}, (2, 4))
    assert rows[1] == capacity.Row("shm", 8, 4, accuracy=0.4, lowest=0.3, highest=0.5)
    best, _, held = capacity.conclude(rows)
    assert "shm recalls best" in best
    assert "2 by shm" in held
    assert "gla" not in held


def test_ablation_says_what_a_part_is_worth():
    rows = [
        ablation.Row("T", name, 1, 0, return_=0.5 - 0.1 * i, lowest=None, highest=None, steps_per_second=10.0 / (1 + i))
        for i, name in enumerate(ablation.VARIANTS)
    ]
    best, gains, speed = ablation.conclude(rows)
    assert "softmax, read norm on T (0.500)" in best
    assert "softmax: +0.100" in gains
    assert f"{len(ablation.VARIANTS):.1f} times as fast" in speed

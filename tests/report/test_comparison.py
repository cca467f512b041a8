"""Which runs are compared, at which steps, under which names."""

from __future__ import annotations

import numpy as np
import pytest
from made import EASY, MEDIUM, WIND, make_result

from hadamem.report.comparison import OVERALL, compare
from hadamem.report.labels import make_labels
from hadamem.report.tables import summary_texts

SCORES = {"gru": {EASY: [0.1, 0.2, 0.3], MEDIUM: [0.0, 0.1]}, "shm": {EASY: [0.5, 0.6, 0.7], MEDIUM: [0.4]}}
RUNS = [
    make_result(env, memory, seed, score)
    for memory, tasks in SCORES.items()
    for env, scores in tasks.items()
    for seed, score in enumerate(scores)
]


def row(made, task, memory):
    return next(row for row in [*made.rows, *made.overall] if (row.task, row.memory) == (task, memory))


def test_per_task_all_runs_count_and_overall_as_many_as_of_the_fewest() -> None:
    made = compare(RUNS, reps=200)
    assert (made.memories, made.baseline) == (["shm", "gru"], "gru")
    assert made.tasks == made.shared == ["popgym-AutoencodeEasy", "popgym-AutoencodeMedium"]
    assert row(made, made.tasks[0], "gru").estimates["mean"].value == pytest.approx(0.2)
    assert row(made, made.tasks[0], "gru").runs == 3
    gru, shm = row(made, OVERALL, "gru"), row(made, OVERALL, "shm")
    assert (gru.runs, shm.runs) == (2, 1)
    normal = [(np.array(s) - low) / (1 - low) for s, low in (([0.1, 0.2], -0.51), ([0.0, 0.1], -0.5))]
    assert gru.estimates["mean"].value == pytest.approx(np.mean(normal))
    assert np.isnan(shm.estimates["mean"].low)
    assert shm.estimates["improvement"].value == 1.0
    assert "improvement" not in gru.estimates
    notes = " ".join(made.notes)
    assert "2 of gru, 1 of shm" in notes
    assert "no interval where there is a single one (shm)" in notes


def test_scales_are_known_or_those_of_the_runs() -> None:
    runs = [
        make_result(WIND, "gru", 0, 2.0),
        make_result(WIND, "mlp", 0, 12.0),
        make_result(EASY, "gru"),
        make_result(EASY, "mlp"),
    ]
    made = compare(runs, reps=200)
    assert (made.scales["hadamem/Wind"].low, made.scales["hadamem/Wind"].high) == (2.0, 12.0)
    assert made.scales["popgym-AutoencodeEasy"].low == -0.51
    assert any("hadamem/Wind" in note and "worst" in note for note in made.notes)
    as_is = compare(runs, reps=200, normalise_by="none")
    assert row(as_is, OVERALL, "mlp").estimates["mean"].value == pytest.approx(6.25)
    rates = [make_result(WIND, "gru", 0, 0.25, metrics=["success"]), make_result(WIND, "mlp", 0, 0.5, metrics=["success"])]
    assert compare(rates, "success", reps=200).entries[0].normalised == 0.25


def test_runs_of_unequal_length_are_compared_at_the_fewest_steps() -> None:
    made = compare([make_result(steps=100_000), make_result(memory="mlp", score=1.0, steps=200_000)], reps=200)
    assert made.steps == {"popgym-AutoencodeEasy": 100_000}
    score = next(entry.score for entry in made.entries if entry.memory == "mlp")
    assert score == pytest.approx(0.975 / 1.9, abs=0.01)  # the mean of its line between 95,000 and 100,000 steps
    steps, _ = made.curves["popgym-AutoencodeEasy"]["mlp"]
    assert steps[-1] == 100_000
    assert any("100,000 environment steps, the fewest; 1 run went on to 200,000" in note for note in made.notes)


def test_curves_lie_on_one_grid() -> None:
    made = compare([make_result(seed=seed, score=score) for seed, score in enumerate((0.0, 1.0))], reps=500)
    steps, (mean, low, high) = made.curves["popgym-AutoencodeEasy"]["gru"]
    half = np.searchsorted(steps, 47_500)
    assert mean[half] == pytest.approx(0.25, abs=0.01)
    assert low[half] == pytest.approx(0, abs=0.01)
    assert high[half] == pytest.approx(0.5, abs=0.02)


def test_incomplete_and_repeated_runs_are_left_out_and_told() -> None:
    runs = [make_result(seed=0), make_result(seed=0, steps=50_000), make_result(seed=1, complete=False, steps=50_000)]
    made = compare(runs, reps=200)
    assert [entry.result.steps for entry in made.entries] == [100_000]
    assert "--incomplete" in made.notes[0]
    assert "same task, memory and seed" in made.notes[1]
    assert made.baseline is None
    assert len(compare(runs, reps=200, incomplete=True).entries) == 2


def test_without_a_shared_task_there_is_no_overall() -> None:
    made = compare([make_result(EASY, "gru"), make_result(WIND, "mlp")], reps=200)
    assert made.overall == []
    assert any("No task was played with every memory" in note for note in made.notes)


def test_what_cannot_be_compared() -> None:
    for arguments, message in [
        (([],), "no runs there"),
        ((RUNS, "accuracy"), "unknown metric 'accuracy'; there are: return, success"),
        ((RUNS, "success"), "no run has the metric 'success'; they have: return"),
        (([make_result(complete=False)],), "none of 1 run is complete; --incomplete"),
        ((RUNS, "return", "lstm"), "baseline 'lstm' is not there; there are: shm, gru"),
        ((RUNS, "return", None, ["*Wind*"]), "no task matches"),
        ((RUNS, "return", None, [], ["ffm"]), "no memory matches ffm; there are: gru, shm"),
    ]:
        with pytest.raises(ValueError, match=message.replace("*", r"\*")):
            compare(*arguments, reps=200)
    with pytest.raises(ValueError, match="at least 100"):
        compare(RUNS, reps=3)


def test_labels_tell_what_differs_on_a_task_and_nothing_else() -> None:
    small = make_result(memory="shm", memory_size=8)
    large = make_result(memory="shm", memory_size=64)
    assert make_labels([small, replace_seed(small, 1), make_result()]) == ["shm", "shm", "gru"]
    assert make_labels([small, large]) == ["shm 8", "shm 64"]
    elsewhere = make_result(WIND, "shm", memory_size=64)  # another size on another task is the recipe of that task
    assert make_labels([small, elsewhere]) == ["shm", "shm"]
    old, new = make_result(WIND), make_result(WIND)
    new.config["ppo"]["gamma"], new.config["ppo"]["noise_correlation"] = float(old.config["ppo"]["gamma"]), 0
    del old.config["ppo"]["noise_correlation"]  # from before it was there
    assert make_labels([old, new]) == ["gru", "gru"]
    fixed = make_result(memory="shm", memory_options=("theta=fixed",), memory_size=8)
    other = make_result(memory="shm", memory_options=("theta=random",), memory_size=64)
    labels = make_labels([fixed, other])
    assert len(set(labels)) == 2
    assert all(len(label.split()) == 2 for label in labels)  # one setting is enough to tell them apart
    both = [make_result(memory="shm", memory_options=(f"theta={i}",), memory_size=j) for i in range(2) for j in (8, 9)]
    assert make_labels(both)[0] == "shm 8 theta=0"  # the size is said first
    three = [make_result(memory="shm", memory_options=(f"theta={i}",), memory_size=8 + min(i, 1)) for i in range(3)]
    assert make_labels(three) == ["shm theta=0", "shm theta=1", "shm theta=2"]  # their sizes do not tell them all apart


def replace_seed(result, seed):
    return make_result(memory=result.config["memory"], seed=seed, memory_size=result.config["memory_size"])


def test_a_lone_run_without_known_bounds_is_not_normalised() -> None:
    alone = compare([make_result("CartPole-v1")], reps=200)
    assert not alone.overall
    assert "normalised mean" not in summary_texts(alone, alone.rows)[0]
    assert alone.notes[0] == "Not normalised, since no bounds are known and there is no other run: CartPole-v1."
    known = compare([make_result(EASY, score=0.0)], reps=200)  # between random play, which is below 0, and 1
    assert 0 < known.entries[0].normalised < 1

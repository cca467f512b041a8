"""What `hadamem bench memories` compares is comparable, and its rows are complete."""

from __future__ import annotations

import pathlib

import pytest
import torch

from hadamem.bench import memories
from hadamem.memory import MEMORIES


@pytest.mark.parametrize("name", [*MEMORIES, memories.TORCH_GRU])
@pytest.mark.parametrize("equal", ["state", "parameters"])
def test_sizes_come_near_the_target(name: str, equal: str) -> None:
    """No multiple of four comes nearer than the size that is found."""
    if (name, equal) == ("s5", "state"):
        pytest.skip("takes long: the eigenvalues of large matrices")
    size, target, count = memories.size_for(name, equal), memories.TARGETS[equal], memories._COUNTS[equal]
    if size is None:
        assert count(memories.build(name, 4)) == count(memories.build(name, 64))
        return
    found = {n: abs(count(memories.build(name, n)) - target) for n in (size - 4, size, size + 4) if n}
    assert min(found, key=lambda n: found[n]) == size


def test_torch_gru_is_what_gru_is_without_resets() -> None:
    ours, theirs = memories.build("gru", 12), memories.build(memories.TORCH_GRU, 12)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 7, memories.FEATURES)
    torch.testing.assert_close(theirs(x), ours(x))


def test_rows(tmp_path: pathlib.Path) -> None:
    rows = [memories.measure(name, "parameters", (2, 8)) for name in ("mingru", memories.TORCH_GRU)]
    assert rows[0].resets
    assert rows[1].resets is None
    loop = memories.measure_loop("mingru", (1, 8))
    lengths = memories.measure_lengths("mingru", (2, 4))
    tables = memories.Tables([], rows, [loop], [memories.measure_gru(8, (2, 8))], [lengths])
    shown = memories.shown(tables)
    assert [len(texts) for texts in shown.values()] == [2, 1, 1, 1]
    assert list(shown.values())[1][0].keys() == {"memory", "fused", "loop", "faster"}
    memories.draw_lengths([lengths], tmp_path / "plots" / "lengths.png")
    assert (tmp_path / "plots" / "lengths.png").stat().st_size > 10_000


def test_only_models_on_the_shared_operators_have_a_loop_to_compare_with() -> None:
    names = memories.with_backends(list(MEMORIES))
    assert {"shm", "lru", "s5", "ffm", "mingru"} <= set(names)
    assert not {"gru", "mlp", "gpt"} & set(names)


def test_medians_are_of_ratios_within_a_round() -> None:
    assert memories.ratio({"a": [1, 20, 30], "b": [1, 10, 10]}, "a", "b") == 2

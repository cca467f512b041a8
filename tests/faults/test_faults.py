"""The campaign, bounded: the first tries of each kind."""

import campaign
import pytest

TRIES = {"modules": 60, "spaces": 25, "folders": 20, "kills": 4}


@pytest.mark.parametrize("kind", campaign.KINDS)
def test_the_first_tries(kind: str) -> None:
    failures = campaign.attempts(kind, range(TRIES[kind]))
    assert not failures, failures[0]


def test_a_try_that_fails_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = campaign.Kind("odd seeds", lambda seed, folder: "odd" if seed % 2 else None, 1.0)
    monkeypatch.setitem(campaign.KINDS, "odd", odd)
    assert campaign.attempts("odd", range(4)) == [(1, "odd"), (3, "odd")]

"""The returns of random play and the largest possible returns of some tasks, between which scores are normalised."""

from __future__ import annotations

# Mean return of random play, POPGym 1.0.7, over 60 episodes each.
_RANDOM = {
    "popgym-AutoencodeEasy-v0": -0.51,
    "popgym-AutoencodeMedium-v0": -0.50,
    "popgym-AutoencodeHard-v0": -0.51,
    "popgym-BattleshipEasy-v0": -0.45,
    "popgym-BattleshipMedium-v0": -0.45,
    "popgym-BattleshipHard-v0": -0.39,
    "popgym-ConcentrationEasy-v0": -0.19,
    "popgym-ConcentrationMedium-v0": -0.19,
    "popgym-ConcentrationHard-v0": -0.83,
    "popgym-RepeatPreviousEasy-v0": -0.49,
    "popgym-RepeatPreviousMedium-v0": -0.50,
    "popgym-RepeatPreviousHard-v0": -0.48,
}
_LARGEST = 1.0  # largest possible return of each of these tasks


def known_returns(id: str) -> tuple[float, float] | None:
    """The mean return of random play on a task, and the largest possible return; None if they are not known."""
    return (_RANDOM[id], _LARGEST) if id in _RANDOM else None

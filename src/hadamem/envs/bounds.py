"""What returns are possible on a task, where that is known: the ends of a normalised score."""

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
_LARGEST = 1.0  # of every one of them


def known_returns(id: str) -> tuple[float, float] | None:
    """The mean return of random play on a task and the largest possible one; None where they are not known."""
    return (_RANDOM[id], _LARGEST) if id in _RANDOM else None

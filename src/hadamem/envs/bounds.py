"""What returns are possible on a task, where that is known: the ends of a normalised score."""

from __future__ import annotations

# Mean return of random play and the largest return there is. POPGym 1.0.7; random play measured over 60 episodes each.
_RETURNS = {
    "popgym-AutoencodeEasy-v0": (-0.51, 1.0),
    "popgym-AutoencodeMedium-v0": (-0.50, 1.0),
    "popgym-AutoencodeHard-v0": (-0.51, 1.0),
    "popgym-BattleshipEasy-v0": (-0.45, 1.0),
    "popgym-BattleshipMedium-v0": (-0.45, 1.0),
    "popgym-BattleshipHard-v0": (-0.39, 1.0),
    "popgym-ConcentrationEasy-v0": (-0.19, 1.0),
    "popgym-ConcentrationMedium-v0": (-0.19, 1.0),
    "popgym-ConcentrationHard-v0": (-0.83, 1.0),
    "popgym-RepeatPreviousEasy-v0": (-0.49, 1.0),
    "popgym-RepeatPreviousMedium-v0": (-0.50, 1.0),
    "popgym-RepeatPreviousHard-v0": (-0.48, 1.0),
}


def known_returns(id: str) -> tuple[float, float] | None:
    """The mean return of random play on a task and the largest possible one; None where they are not known."""
    return _RETURNS.get(id)

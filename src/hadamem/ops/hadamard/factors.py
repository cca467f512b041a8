"""The factors of a calibration in the form of the fused backends: one factor of rows, and one of columns (or C or A itself)."""

from __future__ import annotations

from torch import Tensor


def sides(calibration: str, factors: list[Tensor], a: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The factors of rows and of columns; a scalar becomes a factor of rows that is the same for all rows."""
    match calibration:
        case "ones":
            return None, None
        case "scalar":
            return factors[0].unsqueeze(-1).expand_as(a), None
        case "tanh_outer" | "exp_outer":
            return factors[0], factors[1]
    return None, factors[0]


def empty_gradients(
    calibration: str, left: Tensor | None, right: Tensor | None, a: Tensor, shares: int
) -> tuple[Tensor | None, Tensor | None]:
    """Buffers for the gradients of both factors; the factor of columns has one for every share of the work, to be summed."""
    dleft = None if left is None else a.new_empty(a.shape)
    if right is None:
        return dleft, None
    shape = {"dense": (1, *right.shape), "exp_outer": (a.shape[0], *right.shape)}.get(calibration, (shares, *right.shape))
    return dleft, a.new_empty(shape)


def gradients(calibration: str, dleft: Tensor | None, dright: Tensor | None) -> list[Tensor]:
    """The gradients of the calibration's factors, from those of the factors of rows and columns."""
    if dleft is not None and calibration == "scalar":
        dleft = dleft.sum(-1)
    return [
        x for x in (dleft, None if dright is None else dright[0] if dright.shape[0] == 1 else dright.sum(0)) if x is not None
    ]

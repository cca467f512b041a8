"""How the fused backends see a calibration's factors: one of the rows, one of the columns (or C, or A, itself)."""

from __future__ import annotations

from torch import Tensor


def sides(calibration: str, factors: list[Tensor], a: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The rows' and the columns' factor; a scalar is one of the rows, the same for all of them."""
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
    """Room for the gradients of both sides; of the columns' side for every share of the work, to be added up."""
    dleft = None if left is None else a.new_empty(a.shape)
    if right is None:
        return dleft, None
    shape = {"dense": (1, *right.shape), "exp_outer": (a.shape[0], *right.shape)}.get(calibration, (shares, *right.shape))
    return dleft, a.new_empty(shape)


def gradients(calibration: str, dleft: Tensor | None, dright: Tensor | None) -> list[Tensor]:
    """The gradients of the factors, from those of the two sides."""
    if dleft is not None and calibration == "scalar":
        dleft = dleft.sum(-1)
    return [
        x for x in (dleft, None if dright is None else dright[0] if dright.shape[0] == 1 else dright.sum(0)) if x is not None
    ]

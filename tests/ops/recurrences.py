"""The Hadamard recurrence on random arguments, for the tests of its backends and of threads."""

from __future__ import annotations

import torch
from torch import Tensor

from hadamem.ops import CALIBRATIONS, hadamard_memory


def make_inputs(calibration: str, B: int, T: int, V: int, K: int, reset: float = 0.1, seed: int = 0) -> dict:
    """Random arguments in float64."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"B": B, "T": T, "V": V, "K": K}

    def random(dims: str) -> Tensor:
        return torch.randn([sizes[d] for d in dims], dtype=torch.float64, generator=generator)

    factors = [random(dims) for dims in CALIBRATIONS[calibration].values()]
    if calibration in ("scalar", "column", "dense"):
        factors = [torch.sigmoid(factor) * 1.2 for factor in factors]
    start = torch.rand(B, T, generator=generator) < reset
    return {
        "a": random("BTV"),
        "k": random("BTK"),
        "q": random("BTK"),
        "state": random("BVK"),
        "start": start,
        "factors": factors,
    }


def over_time(calibration: str, factors: list[Tensor]) -> list[Tensor]:
    """Those factors that have a value for every step."""
    return [x for x, dims in zip(factors, CALIBRATIONS[calibration].values(), strict=True) if "T" in dims]


def run(calibration: str, arguments: dict, backend: str, dtype: torch.dtype, magnitudes: bool = False) -> list[Tensor]:
    """[h, last state, gradients of a, k, q, state and the factors] for fixed random gradients of h and the last state.

    With magnitudes, all but the factors are taken without their signs, so that no sum cancels: rounding is to be measured
    against these numbers, since a sum that happens to be near 0 keeps the rounding of its terms.
    """
    unsigned = torch.abs if magnitudes else torch.clone
    leaves = {n: unsigned(arguments[n].to(dtype)).requires_grad_() for n in ("a", "k", "q", "state")}
    factors = [factor.to(dtype).clone().requires_grad_() for factor in arguments["factors"]]
    h, last = hadamard_memory(**leaves, factors=factors, start=arguments["start"], calibration=calibration, backend=backend)
    generator = torch.Generator().manual_seed(1)
    weights = [unsigned(torch.randn(x.shape, dtype=torch.float64, generator=generator).to(dtype)) for x in (h, last)]
    loss = (h * weights[0]).sum() + (last * weights[1]).sum()
    return [x.detach() for x in (h, last, *torch.autograd.grad(loss, [*leaves.values(), *factors]))]


def assert_equal(
    got: list[Tensor], want: list[Tensor], value: float, gradient: float, scale: list[Tensor] | None = None
) -> None:
    """The error of each tensor is below a share of the norm of `scale`, by default of what is wanted."""
    names = ["h", "last", "da", "dk", "dq", "dstate", "dfactor 0", "dfactor 1"]
    for n, (g, w, s) in enumerate(zip(got, want, scale or want, strict=True)):
        error = (g.double() - w).norm() / s.norm().clamp(min=1e-12)
        assert error < (value if n < 2 else gradient), f"{names[n]}: relative error {error:.2e}"

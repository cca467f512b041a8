"""What to say of a loss that is no longer finite: where it began, and what is likely to have caused it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_LARGE = 1e6  # values above this leave little of float32's precision, and their squares little of its range


def not_finite(
    step: int,
    terms: Mapping[str, Tensor],
    networks: Mapping[str, nn.Module],
    data: Mapping[str, Tensor],
    again: Callable[[], Any],
) -> FloatingPointError:
    """The error for a loss that is no longer finite, before the step of the optimiser that would spread it.

    Args:
        step: environment steps so far.
        terms: of the loss, by name, in the order in which they are told.
        networks: those that the loss is made with, by name.
        data: what the loss was computed from.
        again: computes the loss once more.
    """
    first = next((name for name, term in terms.items() if not term.isfinite().all()), "their sum")
    where = _weight(networks)
    causes = ["the steps are too large: try a lower learning rate, or a smaller max_grad_norm"]
    if where is None and (where := _layer(networks, again)) is not None and "memory" in where:
        causes.insert(0, "the memory's state grew without bound: shm stays bounded with the memory option theta=stable")
    largest = {name: values.abs().max().item() for name, values in data.items()}
    if any(not value <= _LARGE for value in largest.values()):
        causes.insert(0, "the numbers of the environment are very large: scale its observations and rewards")
    seen = ", ".join(f"{name} up to {value:.3g}" for name, value in largest.items())
    likely = "; ".join(f"({i}) {cause}" for i, cause in enumerate(causes, 1))
    return FloatingPointError(
        f"the loss is no longer finite after {step:,} steps: {first} was first{f', by {where}' if where else ''}. "
        f"It was computed from {seen}. Likely causes, the likeliest first: {likely}"
    )


def _weight(networks: Mapping[str, nn.Module]) -> str | None:
    """The first weight that is not finite."""
    for network, module in networks.items():
        for name, weight in module.named_parameters():
            if not weight.isfinite().all():
                return f"the weight {network}.{name}"
    return None


def _layer(networks: Mapping[str, nn.Module], again: Callable[[], Any]) -> str | None:
    """The first layer whose output is not finite."""
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if not found and not all(leaf.isfinite().all() for leaf in _floats(output)):
                found.append(f"the output of {name} ({type(module).__name__})")

        return hook

    hooks = [
        layer.register_forward_hook(watch(f"{network}.{name}".rstrip(".")))
        for network, module in networks.items()
        for name, layer in module.named_modules()
    ]
    try:
        with torch.no_grad():
            again()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _floats(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        output = list(output.values())
    return [leaf for part in output for leaf in _floats(part)] if isinstance(output, (list, tuple)) else []

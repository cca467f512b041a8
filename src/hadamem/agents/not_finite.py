"""The error for a loss that is no longer finite: it says where the first such value is, and lists likely causes."""

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
    """Make the error for a loss that is not finite, to be raised before the optimiser step that would spoil the weights.

    Args:
        step: environment steps so far.
        terms: terms of the loss, by name; the first one that is not finite is reported.
        networks: networks that the loss was computed with, by name.
        data: tensors that the loss was computed from, by name.
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
    """The name of the first weight that is not finite; None if all are finite."""
    for network, module in networks.items():
        for name, weight in module.named_parameters():
            if not weight.isfinite().all():
                return f"the weight {network}.{name}"
    return None


def _layer(networks: Mapping[str, nn.Module], again: Callable[[], Any]) -> str | None:
    """The name of the first layer whose output is not finite; None if all are finite."""
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

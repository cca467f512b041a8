"""What the public functions ask of their arguments, and which backend they pick."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

BACKENDS = ("auto", "reference", "parallel", "cpu", "gpu")

#: Half types are computed in these.
WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.complex32: torch.complex64}

_FUSED = {"cpu": "cpu"} | ({"cuda": "gpu"} if importlib.util.find_spec("triton") else {})  # by type of device
_SINGLE = (torch.float32, torch.complex64)  # what the fused kernels compute in

_fitted: set[tuple[Any, ...]] = set()


def signature(*arguments: Tensor | str | None) -> tuple[Any, ...]:
    """All of the arguments that a check looks at."""
    return tuple((x.shape, x.dtype, x.device) if isinstance(x, Tensor) else x for x in arguments)


def seen(key: tuple[Any, ...]) -> bool:
    """Whether arguments of this signature fitted before: looking them over takes longer than a small kernel."""
    return key in _fitted


def remember(key: tuple[Any, ...]) -> None:
    """These fitted."""
    if len(_fitted) > 1000:
        _fitted.clear()
    _fitted.add(key)


def check_backend(backend: str) -> None:
    """A ValueError unless it is one of BACKENDS."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; it must be one of {', '.join(BACKENDS)}")


def check_tensors(given: Mapping[str, tuple[Tensor, str]], sizes: Mapping[str, int], kind: str = "floating point") -> None:
    """A ValueError unless all have the shape, device and dtype that they must have.

    Args:
        given: tensors by name, each with the letters of its dimensions. The first says device and dtype. "start" is of
            bool, and "state" may be wider or narrower than the others.
        sizes: of the letters.
        kind: of numbers, "floating point" or "complex".
    """
    first, (like, _) = next(iter(given.items()))
    for name, (tensor, dims) in given.items():
        shape = tuple(sizes[d] for d in dims)
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be ({', '.join(dims)}) = {shape}")
        if tensor.device != like.device:
            raise ValueError(f"{name} is on {tensor.device}; it must be on {like.device}, as {first} is")
        if name == "start":
            if tensor.dtype != torch.bool:
                raise ValueError(f"start has dtype {tensor.dtype}; it must be torch.bool")
        elif not (tensor.is_complex() if kind == "complex" else tensor.is_floating_point()):
            raise ValueError(f"{name} has dtype {tensor.dtype}; it must be a {kind} type")
        elif name != "state" and tensor.dtype != like.dtype:
            raise ValueError(f"{name} has dtype {tensor.dtype}; it must be {like.dtype}, as {first} has")


def check_fused(backend: str, name: str, tensor: Tensor) -> None:
    """A ValueError if the backend is a fused one that does not compute on that device, or in that dtype."""
    device = {"cpu": "cpu", "gpu": "cuda"}.get(backend)
    if device and (tensor.device.type != device or WIDER.get(tensor.dtype, tensor.dtype) not in _SINGLE):
        raise ValueError(
            f"backend {backend!r} computes in float32 on {device}; {name} is {tensor.dtype} on {tensor.device}. "
            "Use 'auto' or 'reference'"
        )


def pick(backend: str, tensor: Tensor) -> str:
    """The backend that "auto" means for such tensors (half types already widened); any other name as it is."""
    if backend != "auto":
        return backend
    return _FUSED.get(tensor.device.type, "reference") if tensor.dtype in _SINGLE else "reference"

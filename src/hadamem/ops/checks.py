"""Checks of the arguments of the public functions, the choice of a backend, and which tensors its kernels may read."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import operator
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

BACKENDS = ("auto", "reference", "parallel", "cpu", "gpu")

#: The wider dtypes in which half-precision tensors are computed.
WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.complex32: torch.complex64}

_FUSED = {"cpu": "cpu"} | ({"cuda": "gpu"} if importlib.util.find_spec("triton") else {})  # by type of device
_SINGLE = (torch.float32, torch.complex64)  # dtypes that the fused kernels compute in

_TRANSFORMED = ("Batched", "FuncTorchBatched", "FuncTorchGradWrapper", "Functionalize")  # wrapped by a transform
_WITHOUT_MEMORY = ("Python", "ZeroTensor", "Negative")  # without memory, or with other values in memory than the tensor has


def _keys(*names: str) -> int:
    """A bit mask of dispatch keys."""
    keys = (torch._C.DispatchKeySet(torch._C._parse_dispatch_key(name)).raw_repr() for name in names)  # type: ignore[arg-type]
    return functools.reduce(operator.or_, keys)


_TRANSFORM_KEYS, _STAND_IN_KEYS = _keys(*_TRANSFORMED), _keys(*_TRANSFORMED, *_WITHOUT_MEMORY)

_plain, _plain_lock = 0, threading.Lock()
_fitted: set[tuple[Any, ...]] = set()


def signature(*arguments: Tensor | str | None) -> tuple[Any, ...] | None:
    """All properties of the arguments that a check depends on. None if calls are recorded, since sizes may be symbols then."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return None
    return tuple((x.shape, x.dtype, x.device) if isinstance(x, Tensor) else x for x in arguments)


def seen(key: tuple[Any, ...] | None) -> bool:
    """Whether arguments with this signature passed the checks before: the checks take longer than a small kernel."""
    return key is not None and key in _fitted


def remember(key: tuple[Any, ...] | None) -> None:
    """Remember that arguments with this signature have passed the checks."""
    if key is None:
        return
    if len(_fitted) > 1000:
        _fitted.clear()
    _fitted.add(key)


def check_backend(backend: str) -> None:
    """Raise a ValueError unless `backend` is in BACKENDS."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; it must be one of {', '.join(BACKENDS)}")


def check_tensors(tensors: Mapping[str, tuple[Tensor, str]], sizes: Mapping[str, int], kind: str = "floating point") -> None:
    """Raise a ValueError unless all tensors have the required shape, device and dtype.

    Args:
        tensors: tensors by name, each with the letters of its dimensions. The first one determines device and dtype. "start"
            must be bool, and "state" may be wider or narrower than the others.
        sizes: the sizes of the dimensions, by letter.
        kind: the required kind of numbers, "floating point" or "complex".
    """
    first, (like, _) = next(iter(tensors.items()))
    for name, (tensor, dims) in tensors.items():
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
    """Raise a ValueError if the backend is a fused one that does not support the tensor's device or dtype."""
    device = {"cpu": "cpu", "gpu": "cuda"}.get(backend)
    if device and (tensor.device.type != device or WIDER.get(tensor.dtype, tensor.dtype) not in _SINGLE):
        raise ValueError(
            f"backend {backend!r} computes in float32 on {device}; {name} is {tensor.dtype} on {tensor.device}. "
            "Use 'auto' or 'reference'"
        )


@contextlib.contextmanager
def plain_operators() -> Iterator[None]:
    """Within this context, the fused backends are replaced by "parallel", so that a recording of a call has only torch's own
    operators, which other runtimes support. This also affects other threads meanwhile."""
    global _plain  # a number, which TorchDynamo can read
    with _plain_lock:
        _plain += 1
    try:
        yield
    finally:
        with _plain_lock:
            _plain -= 1


def wide_arithmetic(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """A context in which autocast is off for the tensor's device. If it is off already, the context does nothing, which exports
    need."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else contextlib.nullcontext()


def pick(backend: str, tensor: Tensor) -> str:
    """The backend that "auto" stands for with such a tensor (half precision already widened); other names are unchanged."""
    if _plain and backend != "reference":
        return "parallel"
    if backend != "auto":
        return backend
    return _FUSED.get(tensor.device.type, "reference") if tensor.dtype in _SINGLE else "reference"


def route(*tensors: Tensor) -> Literal["kernels", "operator", "reference"]:
    """How a fused backend may be run on these tensors, all of which have a dtype and device that it supports.

    Returns:
        "kernels": all tensors are plain eager tensors, whose memory the kernels may read directly. "operator": the call is
        recorded or redirected (torch.compile, torch.export, torch.jit.trace, a dispatch mode, fake tensors, subclasses), which
        only works for torch operators. "reference": the call is inside a transform of torch.func or forward-mode
        differentiation, which can only transform torch's own operators.
    """
    if torch.compiler.is_compiling():
        return "operator"
    keys = 0
    for x in tensors:
        keys |= torch._C._dispatch_keys(x).raw_repr()
    if keys & _TRANSFORM_KEYS or torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
        return "reference"
    if keys & _STAND_IN_KEYS or torch._C._len_torch_dispatch_stack() or torch.jit.is_tracing():
        return "operator"
    return "kernels" if all(type(x) in (Tensor, torch.nn.Parameter) for x in tensors) else "operator"


def values_known(*tensors: Tensor) -> bool:
    """Whether Python code may depend on the values in these tensors. If a call is recorded or transformed, there are no values
    yet, or only those of an example. (TorchDynamo can break its graph to get them.)"""
    return torch.compiler.is_dynamo_compiling() or route(*tensors) == "kernels"

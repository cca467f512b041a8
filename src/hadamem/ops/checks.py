"""What the public functions ask of their arguments, which backend they pick, and which tensors its kernels may read."""

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

#: Half types are computed in these.
WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.complex32: torch.complex64}

_FUSED = {"cpu": "cpu"} | ({"cuda": "gpu"} if importlib.util.find_spec("triton") else {})  # by type of device
_SINGLE = (torch.float32, torch.complex64)  # what the fused kernels compute in

_TRANSFORMED = ("Batched", "FuncTorchBatched", "FuncTorchGradWrapper", "Functionalize")  # what a transform has wrapped
_WITHOUT_MEMORY = ("Python", "ZeroTensor", "Negative")  # no memory at all, or another value in it than the tensor has


def _keys(*names: str) -> int:
    """Dispatch keys as a set of bits."""
    keys = (torch._C.DispatchKeySet(torch._C._parse_dispatch_key(name)).raw_repr() for name in names)  # type: ignore[arg-type]
    return functools.reduce(operator.or_, keys)


_TRANSFORM_KEYS, _STAND_IN_KEYS = _keys(*_TRANSFORMED), _keys(*_TRANSFORMED, *_WITHOUT_MEMORY)

_plain, _plain_lock = 0, threading.Lock()
_fitted: set[tuple[Any, ...]] = set()


def signature(*arguments: Tensor | str | None) -> tuple[Any, ...] | None:
    """All of the arguments that a check looks at. None where calls are recorded: sizes may be symbols there."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return None
    return tuple((x.shape, x.dtype, x.device) if isinstance(x, Tensor) else x for x in arguments)


def seen(key: tuple[Any, ...] | None) -> bool:
    """Whether arguments of this signature fitted before: looking them over takes longer than a small kernel."""
    return key is not None and key in _fitted


def remember(key: tuple[Any, ...] | None) -> None:
    """These fitted."""
    if key is None:
        return
    if len(_fitted) > 1000:
        _fitted.clear()
    _fitted.add(key)


def check_backend(backend: str) -> None:
    """A ValueError unless it is one of BACKENDS."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; it must be one of {', '.join(BACKENDS)}")


def check_tensors(tensors: Mapping[str, tuple[Tensor, str]], sizes: Mapping[str, int], kind: str = "floating point") -> None:
    """A ValueError unless all have the shape, device and dtype that they must have.

    Args:
        tensors: tensors by name, each with the letters of its dimensions. The first says device and dtype. "start" is of
            bool, and "state" may be wider or narrower than the others.
        sizes: of the letters.
        kind: of numbers, "floating point" or "complex".
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
    """A ValueError if the backend is a fused one that does not compute on that device, or in that dtype."""
    device = {"cpu": "cpu", "gpu": "cuda"}.get(backend)
    if device and (tensor.device.type != device or WIDER.get(tensor.dtype, tensor.dtype) not in _SINGLE):
        raise ValueError(
            f"backend {backend!r} computes in float32 on {device}; {name} is {tensor.dtype} on {tensor.device}. "
            "Use 'auto' or 'reference'"
        )


@contextlib.contextmanager
def plain_operators() -> Iterator[None]:
    """Inside, the fused backends give way to "parallel": what records the call then finds torch's operators only, which other
    runtimes know. Other threads take the longer way, too, for so long."""
    global _plain  # a number, which TorchDynamo can read
    with _plain_lock:
        _plain += 1
    try:
        yield
    finally:
        with _plain_lock:
            _plain -= 1


def wide_arithmetic(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Inside, autocast is off for tensors on its device. Where it is off already this is nothing, which exports understand."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else contextlib.nullcontext()


def pick(backend: str, tensor: Tensor) -> str:
    """The backend that "auto" means for such tensors (half types already widened); any other name as it is."""
    if _plain and backend != "reference":
        return "parallel"
    if backend != "auto":
        return backend
    return _FUSED.get(tensor.device.type, "reference") if tensor.dtype in _SINGLE else "reference"


def route(*tensors: Tensor) -> Literal["kernels", "operator", "reference"]:
    """How a fused backend may be run on these tensors, all of which have the dtype and the device that it computes on.

    Returns:
        "kernels": all are plain eager tensors, whose memory the kernels may read at its address. "operator": the call is
        recorded or redirected (torch.compile, torch.export, torch.jit.trace, a dispatch mode, fake tensors, subclasses), which
        happens to operators of torch only. "reference": inside a transform of torch.func or a level of forward-mode
        differentiation, which know only how torch's own operators are transformed.
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
    """Whether Python may look at the numbers in these tensors to decide what to do: where a call is recorded or transformed
    there are none yet, or only an example's. (TorchDynamo can break its graph to see them.)"""
    return torch.compiler.is_dynamo_compiling() or route(*tensors) == "kernels"

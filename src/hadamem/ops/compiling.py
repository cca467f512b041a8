"""How Numba compiles the kernels for the CPU.

A kernel is a native function in Numba's cache. It is made of parts, which are compiled with it and are not cached themselves.
"""

from __future__ import annotations

import os
import pathlib
import tempfile
import zlib
from collections.abc import Callable
from typing import Any

import numba
from numba import njit, types


def _make_cache_writable() -> None:
    """Give Numba a temporary folder for its cache if it can write neither beside the code nor in the home folder, since it
    refuses to work without a cache."""
    here = pathlib.Path(__file__).parent / "__pycache__"
    homes = (here if here.exists() else here.parent, pathlib.Path.home() if "HOME" in os.environ else here)
    if not numba.config.CACHE_DIR and not any(os.access(folder, os.W_OK) for folder in homes):
        numba.config.CACHE_DIR = tempfile.mkdtemp(prefix="hadamem-")


_make_cache_writable()


def stamp(*files: str | None) -> int:
    """A checksum of the contents of `files`, of this file and of `simd.py`.

    Numba's cache identifies a kernel by the modification time of its own file and by the values in its closure. So a kernel
    that is made of parts from several files has this number in its closure, and otherwise only numbers, since functions in a
    closure differ from process to process.
    """
    here = pathlib.Path(__file__)
    return zlib.crc32(b"".join(pathlib.Path(str(file)).read_bytes() for file in (here, here.with_name("simd.py"), *files)))


def part(inline: bool = False, once: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Make a function a part of kernels, which Python itself cannot call.

    Args:
        inline: whether the part is always copied into the functions that call it.
        once: whether the part is compiled once for all integers, instead of once for each constant that it is called with;
            right for parts outside the innermost loops, in which a constant saves no time.
    """

    def make(function: Callable[..., Any]) -> Any:
        without = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # with which Python could call it
        made = njit(nogil=True, error_model="numpy", forceinline=inline, **without)(function)
        if once:
            for_types = made.get_call_template
            made.get_call_template = lambda args, names: for_types(
                [types.unliteral(arg) for arg in args], {name: types.unliteral(arg) for name, arg in names.items()}
            )
        return made

    return make

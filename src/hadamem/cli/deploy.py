"""The commands that hand a trained policy on: `hadamem pack` and `hadamem export`."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro

from ..checks import check_fields
from ..deploy import read_trained
from .console import console, say


@dataclass
class Pack:
    """Write a trained policy as one file, which hadamem.load reads: weights, configuration, spaces, nothing that runs code."""

    run: tyro.conf.Positional[pathlib.Path]
    """folder of the run"""
    out: pathlib.Path | None = None
    """file to write; None: beside the folder, with its name and .safetensors"""


def pack(arguments: Sequence[str]) -> None:
    """Write a trained policy as one file, to act with it anywhere"""
    from ..deploy.packed import write_packed

    given = tyro.cli(Pack, args=arguments, prog="hadamem pack")
    trained = read_trained(given.run)
    out = given.out or _beside(given.run, ".safetensors")
    write_packed(trained, out)
    print(out)


@dataclass
class Export:
    """Write one step of a trained policy as a graph for other runtimes, and play it there beside PyTorch.

    A largest difference above 1e-4, in units of the largest number where that is above 1, is an error.
    """

    run: tyro.conf.Positional[pathlib.Path]
    """folder of the run, or a file that hadamem pack made"""
    format: Literal["onnx", "torch"] = "onnx"
    """onnx: for ONNX Runtime and others, needs hadamem[export]; torch: for torch.export.load and AOTInductor"""
    out: pathlib.Path | None = None
    """file to write; None: beside the run, with its name and .onnx or .pt2"""
    steps: int = 200
    """steps that are played in both, with resets in between"""


def export(arguments: Sequence[str]) -> None:
    """Write a trained policy for ONNX Runtime, or as torch.export does"""
    from ..deploy.export import export_onnx, export_torch, record

    given = tyro.cli(Export, args=arguments, prog="hadamem export")
    check_fields(given, ("steps",), at_least=1)
    to_onnx = given.format == "onnx"
    out = given.out or _beside(given.run, ".onnx" if to_onnx else ".pt2")
    with console.status("recording one step"):
        recorded = record(read_trained(given.run))
        difference = (export_onnx if to_onnx else export_torch)(recorded, out, given.steps)
    say(f"{given.steps} steps with resets beside PyTorch: the largest difference is {difference:.1e}")
    print(out)


def _beside(run: pathlib.Path, ending: str) -> pathlib.Path:
    run = run.resolve()
    return run.with_name((run.stem if run.is_file() else run.name) + ending)

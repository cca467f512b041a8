"""The commands that hand a trained policy on: `hadamem pack`."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from ..deploy import read_trained


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


def _beside(run: pathlib.Path, ending: str) -> pathlib.Path:
    run = run.resolve()
    return run.with_name(run.name + ending)

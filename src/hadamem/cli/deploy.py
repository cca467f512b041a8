"""The commands that make a trained policy available to other programs: `hadamem record`, `pack`, `export` and `serve`."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import tyro

from ..checks import check_fields, check_installed
from ..deploy import Limits, read_trained
from .console import say, show_status


@dataclass
class Record:
    """Play a trained policy, and write its episodes as a data set of Minari; needs hadamem[minari]."""

    run: tyro.conf.Positional[pathlib.Path]
    """folder of the run, or a file that hadamem pack made"""
    id: str
    """id of the data set, such as mine/cartpole-v0; it is written to Minari's folder of data sets (MINARI_DATASETS_PATH)"""
    episodes: int = 100
    """number of episodes"""
    seed: int = 0
    """seed of the first episode; each further episode has the next number as its seed"""
    mode: Literal["greedy", "sampled"] = "greedy"
    """how actions are chosen: the most likely one, or drawn from the policy as in training"""


def record(arguments: Sequence[str]) -> None:
    """Write a trained policy's episodes as a data set of Minari"""
    from ..deploy.recording import record_episodes

    options = tyro.cli(Record, args=arguments, prog="hadamem record")
    check_fields(options, ("episodes",), at_least=1)
    check_fields(options, ("seed",), at_least=0)
    with show_status() as show:

        def say_how_far(episodes: int, steps: int) -> None:
            show(f"{episodes} of {options.episodes} episodes, the last one of {steps} steps")

        trained, greedy = read_trained(options.run), options.mode == "greedy"
        data = record_episodes(trained, options.id, options.episodes, options.seed, greedy, on_progress=say_how_far)
    which = "" if data.spec.env_spec else f" --env {trained.config.env}"
    say(f"{data.total_episodes} episodes, {data.total_steps:,} steps; `hadamem clone {options.id}{which}` imitates them")
    print(options.id)


@dataclass
class Pack:
    """Write a trained policy as one file for hadamem.load: weights, configuration and spaces, without any executable code."""

    run: tyro.conf.Positional[pathlib.Path]
    """folder of the run"""
    out: pathlib.Path | None = None
    """file to write; None: next to the folder, with the folder's name and .safetensors"""


def pack(arguments: Sequence[str]) -> None:
    """Write a trained policy as one file, to act with it anywhere"""
    from ..deploy.packed import write_packed

    options = tyro.cli(Pack, args=arguments, prog="hadamem pack")
    trained = read_trained(options.run)
    out = options.out or _beside(options.run, ".safetensors")
    write_packed(trained, out)
    print(out)


@dataclass
class Export:
    """Write a trained policy as a graph for other runtimes, by default of one step, and compare it there with PyTorch.

    A difference above 1e-4, relative to the largest number if that is above 1, is an error.
    """

    run: tyro.conf.Positional[pathlib.Path]
    """folder of the run, or a file that hadamem pack made"""
    format: Literal["onnx", "torch"] = "onnx"
    """onnx: for ONNX Runtime and others, needs hadamem[export]; torch: for torch.export.load and AOTInductor"""
    out: pathlib.Path | None = None
    """file to write; None: next to the run, with the run's name and .onnx or .pt2"""
    sequence: int | None = None
    """number of steps of a sequence that is one graph, for example to score recorded episodes; None: one step, for acting"""
    steps: int = 200
    """number of steps that are compared, with resets in between"""


def export(arguments: Sequence[str]) -> None:
    """Write a trained policy for ONNX Runtime, or as a program of torch.export"""
    from ..deploy.export import export_onnx, export_torch, record

    options = tyro.cli(Export, args=arguments, prog="hadamem export")
    check_fields(options, ("steps", "sequence"), at_least=1)
    to_onnx = options.format == "onnx"
    out = options.out or _beside(options.run, ".onnx" if to_onnx else ".pt2")
    with show_status("recording the policy"):
        recorded = record(read_trained(options.run), options.sequence)
        difference = (export_onnx if to_onnx else export_torch)(recorded, out, options.steps)
    say(f"{options.steps} steps with resets: the largest difference from PyTorch is {difference:.1e}")
    print(out)


@dataclass
class Serve:
    """Serve a trained policy over HTTP, with a session for each client; needs hadamem[serve]. GET /docs explains the requests.

    After Ctrl-C or SIGTERM, requests that have arrived are still answered, and the server ends.
    """

    run: tyro.conf.Positional[pathlib.Path]
    """folder of the run, or a file that hadamem pack made"""
    host: str = "127.0.0.1"
    """address to listen on; the default can be reached from this machine only, 0.0.0.0 from other machines, too"""
    port: int = 8000
    """port to listen on; 0: any free port"""
    token: str | None = None
    """token that clients must send as Authorization: Bearer TOKEN; none: the value of the environment variable HADAMEM_TOKEN;
    without either, no token is needed"""
    limits: tyro.conf.OmitArgPrefixes[Limits] = field(default_factory=Limits)


def serve(arguments: Sequence[str]) -> None:
    """Serve a trained policy over HTTP, with a session for each client"""
    options = tyro.cli(Serve, args=arguments, prog="hadamem serve")
    check_fields(options, ("port",), at_least=0, at_most=65535)
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        check_installed(package, "serve")
    import uvicorn

    from ..deploy.serving import make_app

    token = options.token or os.environ.get("HADAMEM_TOKEN")
    if token is None and options.host not in ("127.0.0.1", "localhost", "::1"):
        say(f"anyone who can reach {options.host} can use this server; with --token, requests need a token")
    torch.set_num_threads(1)
    app = make_app(read_trained(options.run), options.limits, token)
    config = uvicorn.Config(
        app, options.host, options.port, log_level="warning", access_log=False, timeout_graceful_shutdown=10, lifespan="off"
    )
    with contextlib.closing(config.bind_socket()) as listening:
        listening.listen(2048)  # from now on clients wait instead of being refused
        host, port = listening.getsockname()[:2]
        print(f"serving {options.run} at http://{host}:{port} (its requests: http://{host}:{port}/docs)", flush=True)
        uvicorn.Server(config).run([listening])


def _beside(run: pathlib.Path, ending: str) -> pathlib.Path:
    run = run.resolve()
    return run.with_name((run.stem if run.is_file() else run.name) + ending)

"""The time of a step of acting, and whether every memory can be exported."""

from __future__ import annotations

import pathlib
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from ..agents.config import TrainConfig
from ..agents.making import make_policy
from ..deploy import Acting, Trained
from ..deploy.export import ExportError, Recorded, export_onnx, export_torch, record, session_of
from ..envs.interface import Interface
from ..text import columns
from .memories import in_turn

_SEQUENCE = 20  # steps of an exported sequence
_SHAPE = 4  # numbers in an observation; there are two actions, as in CartPole


@dataclass(frozen=True)
class ActRow:
    """Microseconds for a step on one thread: `Acting.act`, and only the policy's forward pass with the choice of an action."""

    memory: str
    act_us: float
    forward_us: float


@dataclass(frozen=True)
class ExportRow:
    """The result of exporting a policy with a memory.

    Attributes:
        memory: name of the memory.
        onnx, torch: largest difference of an exported step from PyTorch over 200 steps with resets; or the reason why the
            policy cannot be exported.
        onnx_sequence, torch_sequence: the same for an exported sequence.
        onnx_kb: size of the ONNX file of one step.
        onnx_runtime_us: microseconds for a step in ONNX Runtime on one thread.
    """

    memory: str
    onnx: float | str
    torch: float | str
    onnx_sequence: float | str
    torch_sequence: float | str
    onnx_kb: float | None = None
    onnx_runtime_us: float | None = None


def untrained(memory: str, seed: int = 0) -> Trained:
    """A policy of PPO with a memory at its default size, for observations like CartPole's."""
    torch.manual_seed(seed)
    interface = Interface(spaces.Box(-1, 1, (_SHAPE,)), spaces.Discrete(2))
    config = TrainConfig(memory=memory, env="CartPole-v1")
    return Trained(make_policy(config, interface).eval(), config, interface, 0)


def measure_act(memories: Sequence[str], on_progress: Callable[[str], None]) -> list[ActRow]:
    """Measure a step of acting with each memory at its default size."""
    rows, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for memory in memories:
            on_progress(memory)
            trained = untrained(memory)
            acting, policy = Acting(trained.policy, trained.interface), trained.policy
            observation = np.linspace(-1, 1, _SHAPE, dtype=np.float32)
            acting.act(observation)
            obs, start, state = torch.from_numpy(observation)[None], torch.zeros(1, dtype=torch.bool), policy.initial_state(1)

            def forward(policy: Any = policy, obs: Any = obs, state: Any = state, start: Any = start) -> None:
                policy.act(obs, state, start, True)

            def act(acting: Acting = acting, observation: Any = observation) -> None:
                acting.act(observation)

            found = in_turn({"act_us": act, "forward_us": forward}, 1)
            rows.append(ActRow(memory, statistics.median(found["act_us"]), statistics.median(found["forward_us"])))
    finally:
        torch.set_num_threads(threads)
    return rows


def measure_export(memories: Sequence[str], on_progress: Callable[[str], None]) -> list[ExportRow]:
    """Export a policy with each memory at its default size, and compare it with PyTorch."""
    rows = []
    for memory in memories:
        on_progress(memory)
        differences: dict[str, float | str] = {}
        kilobytes = us = None
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "policy"
            for length, suffix in ((None, ""), (_SEQUENCE, "_sequence")):
                recorded = record(untrained(memory), length)
                for name, write in (("onnx", export_onnx), ("torch", export_torch)):
                    try:
                        differences[name + suffix] = write(recorded, file)
                    except ExportError as error:
                        differences[name + suffix] = str(error)
                    else:
                        if name == "onnx" and length is None:
                            kilobytes, us = file.stat().st_size / 1e3, _in_onnx_runtime(recorded, file)
        rows.append(ExportRow(memory, **differences, onnx_kb=kilobytes, onnx_runtime_us=us))
    return rows


def shown(rows: Sequence[ExportRow]) -> list[dict[str, str]]:
    """The rows of `measure_export` as texts."""

    def text(name: str, value: object) -> str:
        digits = ".0f" if name in ("onnx_kb", "onnx_runtime_us") else ".0e"
        return format(value, digits) if isinstance(value, float) else str(value or "-")

    return [{name: text(name, value) for name, value in columns(row).items()} for row in rows]


def _in_onnx_runtime(recorded: Recorded, file: pathlib.Path) -> float:
    session = session_of(file.read_bytes())
    taken = {node.name for node in session.get_inputs()}
    fields = [field for field in recorded.step.inputs if field.name in taken]
    inputs = {field.name: torch.zeros(1, *field.shape, dtype=field.dtype).numpy() for field in fields}
    return statistics.median(in_turn({"run": lambda: session.run(None, inputs)}, 1)["run"])

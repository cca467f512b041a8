"""Export of policies to other runtimes, as the graph of a step or a sequence. Each export is compared with PyTorch first."""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..disk import write_whole
from ..ops.checks import plain_operators
from .packed import described
from .step import PREVIOUS, Step
from .trained import Trained

TOLERANCE = 1e-4  # largest difference allowed, relative to the largest number of an output if that is above 1
_ROWS, _RESETS = 3, 0.1  # parallel episodes in the comparison, and the probability of a reset at each step

#: A step in some runtime: a function from input tensors by name to output tensors by name.
Play = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


class ExportError(ValueError):
    """A policy cannot be exported, or the exported policy gives other results than PyTorch."""


@dataclass
class Recorded:
    """A step (or a sequence) of a policy, and the graph that `torch.export` made of it."""

    trained: Trained
    step: Step
    program: torch.export.ExportedProgram


def record(trained: Trained, length: int | None = None) -> Recorded:
    """Record one step of a policy, or a sequence of `length` steps, with `torch.export`, for any number of rows.

    Raises:
        ExportError: torch cannot record the policy.
        ValueError: length is less than 1.
    """
    step = Step(trained.policy, trained.interface, length)
    batch = torch.export.Dim("N", min=1)
    example = tuple(torch.zeros(2, *field.shape, dtype=field.dtype) for field in step.inputs)
    with _quiet(), plain_operators(), torch.no_grad():
        step(*example)  # so that values that are computed once and cached are not part of the recording
        try:
            program = torch.export.export(step, example, dynamic_shapes=(tuple({0: batch} for _ in example),), strict=False)
        except Exception as error:
            raise ExportError(f"{trained.config.memory} cannot be exported by torch.export: {_cause(error)}") from error
    return Recorded(trained, step, program)


def export_onnx(recorded: Recorded, path: pathlib.Path, steps: int = 200) -> float:
    """Write a policy as an ONNX model, after comparing ONNX Runtime with PyTorch.

    Args:
        recorded: the recorded policy.
        path: path of the file.
        steps: number of steps to compare.

    Returns:
        The largest difference, see `largest_difference`.

    Raises:
        ExportError: ONNX lacks an operator, or the difference is above TOLERANCE; nothing is written then.
        ModuleNotFoundError: the extra "export" is not installed.
    """
    with _installed():
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    trained, step = recorded.trained, recorded.step
    with _quiet(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                recorded.program.run_decompositions({torch.ops.aten.cummax.default: _running_max}),
                dynamo=True,
                input_names=[field.name for field in step.inputs],
                output_names=step.outputs,
                verbose=False,
            )
        except Exception as error:
            raise ExportError(f"{trained.config.memory} cannot be exported to ONNX: {_cause(error)}") from error
    program.model.metadata_props.update(described(trained))
    content = program.model_proto.SerializeToString()
    session = session_of(content)
    taken = {node.name for node in session.get_inputs()}

    def play(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = session.run(step.outputs, {name: value for name, value in inputs.items() if name in taken})
        return dict(zip(step.outputs, outputs, strict=True))

    difference = _checked(trained, step, play, steps)
    write_whole(path, memoryview(content))
    return difference


def _running_max(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """`torch.cummax` along the last dimension by operators that ONNX has: (values, indices)."""
    if dim not in (-1, x.dim() - 1):
        raise NotImplementedError(f"cummax along dimension {dim}")
    T, numbers = x.shape[-1], torch.finfo(x.dtype) if x.is_floating_point() else torch.iinfo(x.dtype)
    later = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
    return x[..., None, :].expand(*x.shape[:-1], T, T).masked_fill(later, numbers.min).max(dim=-1)


def session_of(content: bytes) -> Any:
    """Load an ONNX model into ONNX Runtime, on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def export_torch(recorded: Recorded, path: pathlib.Path, steps: int = 200) -> float:
    """Write a policy with `torch.export.save`, for `torch.export.load` and AOTInductor; otherwise like `export_onnx`.

    The metadata is in the extra file "hadamem.json" inside the written file.
    """
    trained, step, program = recorded.trained, recorded.step, recorded.program
    run: Any = program.module()

    def play(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            outputs = run(*(torch.from_numpy(inputs[field.name]) for field in step.inputs))
        return {name: output.numpy() for name, output in zip(step.outputs, outputs, strict=True)}

    difference = _checked(trained, step, play, steps)
    said = described(trained) | {
        "inputs": json.dumps([field.name for field in step.inputs]),
        "outputs": json.dumps(step.outputs),
    }
    beside = path.with_name(f".{path.name}.part.pt2")
    try:
        torch.export.save(program, beside, extra_files={"hadamem.json": json.dumps(said)})
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return difference


def _checked(trained: Trained, step: Step, play: Play, steps: int) -> float:
    difference, where = largest_difference(trained, step, play, steps)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"the exported {trained.config.memory} differs from PyTorch by {difference:.1e} in {where}; up to {TOLERANCE:.0e} "
            "is allowed, so nothing was written"
        )
    return difference


@torch.no_grad()
def largest_difference(trained: Trained, step: Step, play: Play, steps: int) -> tuple[float, str]:
    """Play random observations with resets in another runtime and, step by step, in PyTorch with the policy's own code.

    Each carries its own state. Differences are absolute if all numbers of an output are within +-1, otherwise relative to the
    largest of them.

    Returns:
        The largest difference, and the name and step of the output that had it.
    """
    policy, interface = trained.policy.cpu(), trained.interface
    rng = np.random.default_rng(0)
    interface.observation.seed(0)
    state = policy.initial_state(_ROWS)
    mine = {f"state.{name}": _plain(leaf) for name, leaf in state.items()}
    if step.previous and not step.length:
        mine[f"state.{PREVIOUS}"] = np.zeros((_ROWS, step.previous.size), np.float32)
    history = np.zeros((_ROWS, interface.layout.size - interface.history.start), np.float32)
    length, worst, where = step.length or 1, 0.0, "nothing"
    for first in range(0, steps, length):
        fed, expected = list[dict[str, Any]](), list[dict[str, Any]]()
        for t in range(first, first + length):
            start = rng.random(_ROWS) < (1 if t == 0 else _RESETS)
            rows, inputs = _observations(step, rng)
            inputs["start"] = start
            if interface.reward:
                inputs["reward"] = rng.normal(size=_ROWS).astype(np.float32)
            rows[:, interface.history] = history
            if interface.reward:
                rows[:, -1] = inputs["reward"]
            rows[start, interface.history] = 0
            if step.previous and step.length:
                inputs[PREVIOUS] = history[:, : step.previous.size]
            seen, starts = torch.from_numpy(rows)[:, None], torch.from_numpy(start)[:, None]
            parameters, state = policy.distribution(seen, state, starts)
            _, outputs = step.actions(parameters[:, 0])
            played = interface.actions.to_environment(policy.head.mode(parameters[:, 0]).numpy())
            if step.previous:
                interface.write_previous(played, 0, rows)
                history = rows[:, interface.history].copy()
            fed.append(inputs)
            expected.append({name: output.numpy() for name, output in zip(step.actions.names, outputs, strict=True)})
        wanted = _over_time(expected, step.length) | {f"new_state.{name}": _plain(leaf) for name, leaf in state.items()}
        if step.previous and not step.length:
            wanted[f"new_state.{PREVIOUS}"] = history[:, : step.previous.size]
        got = play({**_over_time(fed, step.length), **mine})
        mine = {name.removeprefix("new_"): value for name, value in got.items() if name.startswith("new_state.")}
        for name, value in wanted.items():
            if (difference := _difference(got[name], value)) > worst:
                worst, where = difference, f"{name} at step {t}"
    return worst, where


def _over_time(steps: list[dict[str, Any]], length: int | None) -> dict[str, np.ndarray]:
    """Stack the arrays (N, ...) of all steps to (N, T, ...); without a length, return the arrays of the only step."""
    return steps[0] if length is None else {name: np.stack([step[name] for step in steps], axis=1) for name in steps[0]}


def _observations(step: Step, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Random observations (and masks), as rows of the network's columns, and as inputs of the step by name."""
    interface = step.interface
    seen = [interface.observation.sample() for _ in range(_ROWS)]
    rows = np.zeros((_ROWS, interface.layout.size), np.float32)
    inputs: dict[str, list[Any]] = {}
    for row, observation in zip(rows, seen, strict=True):
        interface.write(observation, row[None], single=True)
        if interface.mask != "none":
            legal = _random_mask(interface.actions.counts, rng)
            inputs.setdefault("mask", []).append(legal)
            interface.write_mask(observation, legal, row[None], single=True)
        if step.observation:
            for path, field in zip(step.observation.paths, step.observation.fields, strict=True):
                value = observation
                for key in path:
                    value = value[key]
                inputs.setdefault(field.name, []).append(value)
    return rows, {name: np.stack(values) for name, values in inputs.items()}


def _random_mask(counts: list[int], rng: np.random.Generator) -> np.ndarray:
    groups = [rng.random(count) < 0.5 for count in counts]
    for group in groups:
        group[rng.integers(len(group))] = True
    return np.concatenate(groups)


def _plain(leaf: Tensor) -> np.ndarray:
    """Convert a tensor to a numpy array, with complex numbers as pairs of real numbers."""
    return (torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf).numpy()


def _difference(got: np.ndarray, wanted: np.ndarray) -> float:
    if got.shape != wanted.shape:
        return float("inf")
    if got.dtype.kind != "f":
        return float(np.count_nonzero(got != wanted))
    same = got == wanted  # infinities, too
    finite = wanted[np.isfinite(wanted)]
    scale = max(1.0, float(np.abs(finite).max(initial=0)))
    distance = np.abs(np.where(same, 0, got.astype(np.float64) - wanted)) / scale
    return float("inf") if np.isnan(distance).any() else float(distance.max(initial=0))


def _cause(error: BaseException) -> str:
    """The first line of the message of the error at the end of the chain of causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed, which ONNX needs: pip install 'hadamem[export]'") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within this context, warnings of torch's exporters, which are of no use to a user of hadamem, are not shown."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

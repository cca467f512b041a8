"""Writes a recording as a self-contained HTML page, which needs no network and no other file."""

from __future__ import annotations

import base64
import importlib.resources
import io
import json
import pathlib
from typing import Any

import numpy as np

from ..disk import write_whole
from ..text import count
from .recording import HadamardTrace, Recording

_LARGEST_PICTURE = 480  # pixels of the longer side

#: Each calibration as a formula, as in `hadamem.ops.hadamard_memory`.
FORMULAS = {
    "ones": "C = 1",
    "scalar": "C[i, j] = f",
    "column": "C[i, j] = g[j]",
    "tanh_outer": "C[i, j] = 1 + tanh(u[i] w[j])",
    "exp_outer": "C[i, j] = exp(-d[i] A[i, j])",
    "dense": "C as given by the memory",
}


def write_page(recording: Recording, file: pathlib.Path) -> None:
    """Write a recording as an HTML page."""
    template = importlib.resources.files(__package__).joinpath("viewer.html").read_text()
    data = json.dumps(_content(recording), allow_nan=False).replace("<", "\\u003c")  # no tag can end the script early
    write_whole(file, template.replace("DATA", data, 1))


def title(recording: Recording) -> str:
    """The title of a recording: the memory, the task and its options."""
    config = recording.config
    memory = config.memory if config.memory_size is None else f"{config.memory} ({config.memory_size})"
    return " ".join([memory, "on", config.env, *config.env_options, *config.evaluate_options])


def facts(recording: Recording) -> str:
    """The agent, seed, length, return and success of the episode, in one line."""
    steps, total = len(recording.rewards), float(recording.rewards.sum(dtype=np.float64))
    words = [
        recording.config.agent,
        f"{recording.mode} actions",
        f"seed {recording.seed}",
        count(steps, "step"),
        f"return {total:.3f}",
    ]
    episode = recording.episode
    if episode is not None and episode.success is not None:
        words.append("success" if episode.success else "no success")
    if episode is not None and len(episode.inner_returns) > 1:
        words.append("inner returns " + ", ".join(f"{r:.2f}" for r in episode.inner_returns))
    return " · ".join(words)


def action_words(recording: Recording) -> list[str]:
    """Each action as text."""
    whole = recording.actions.dtype.kind in "iu"
    return [", ".join(str(int(x)) if whole else f"{x:.3g}" for x in action) for action in recording.actions]


def _content(recording: Recording) -> dict[str, Any]:
    return {
        "title": title(recording),
        "facts": facts(recording),
        "notes": recording.notes,
        "steps": len(recording.rewards),
        "pictures": [_png(picture) for picture in recording.pictures],
        "caption": "frame" if recording.rendered else "observation",
        "texts": recording.texts,
        "words": action_words(recording),
        "actions": _packed(recording.actions),
        "discrete": recording.actions.dtype.kind in "iu",
        "first_action": recording.first_action,
        "probabilities": None if recording.probabilities is None else _packed(recording.probabilities),
        "rewards": _packed(recording.rewards),
        "values": None if recording.values is None else _packed(recording.values),
        "inner": recording.inner_starts,
        "hadamard": [_hadamard(recording, n) for n in range(len(recording.hadamard))],
        "states": {name: _packed(values) for name, values in recording.states.items()},
    }


def _hadamard(recording: Recording, n: int) -> dict[str, Any]:
    """The data from which the page computes M, C and U; it has about a hundredth of their size."""
    trace: HadamardTrace = recording.hadamard[n]
    _, heads, V, K = trace.memory.shape
    layer = f", layer {n}" if len(recording.hadamard) > 1 else ""
    return {
        "title": f"{recording.config.memory}{layer}: " + (f"{heads} heads of " if heads > 1 else "") + f"{V} by {K} cells",
        "formula": f"M ← M * C + U cell by cell; {FORMULAS[trace.calibration]}",
        "calibration": trace.calibration,
        "heads": heads,
        "V": V,
        "K": K,
        "factors": {name: _packed(factor) for name, factor in trace.factors.items()},
        **{name: _packed(getattr(trace, name)) for name in "akqh"},
    }


def _packed(array: np.ndarray) -> dict[str, Any]:
    data = np.ascontiguousarray(array, "<f4").tobytes()
    return {"shape": array.shape, "data": base64.b64encode(data).decode()}


def _png(picture: np.ndarray) -> str:
    from PIL import Image

    image = Image.fromarray(picture)
    if max(image.size) > _LARGEST_PICTURE:
        image.thumbnail((_LARGEST_PICTURE, _LARGEST_PICTURE))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

"""Writes a recording as a video: the frame or observation on the left, the memory on the right, the rewards below."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .recording import Recording
from .viewer import action_words, title

FRAMES_PER_SECOND = 5
_BLUE = "#0072B2"  # can be distinguished from orange by colour-blind readers (Okabe and Ito, 2008)


def check_video(file: pathlib.Path) -> None:
    """Check that a video can be written to this file; to be called before the episode is played.

    Raises:
        ValueError: the name of the file does not end in .mp4.
        ModuleNotFoundError: the packages that write videos are not installed.
    """
    if file.suffix != ".mp4":
        raise ValueError(f"--video is {file}; it must end in .mp4")
    try:
        import imageio.v2  # noqa: F401
        import imageio_ffmpeg  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; for a video: pip install 'hadamem[video]'") from error


def write_video(recording: Recording, file: pathlib.Path, progress: Callable[[int], None] | None = None) -> None:
    """Write the video, a frame for each step; `progress` is called with the number of frames written."""
    import imageio.v2 as imageio

    check_video(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure, draw = _figure(recording)
    canvas = FigureCanvasAgg(figure)
    new = file.with_name(f".{file.name}.new.mp4")
    writer: Any = imageio.get_writer(new, fps=FRAMES_PER_SECOND, codec="libx264", macro_block_size=2)
    with writer:
        for t in range(len(recording.rewards)):
            draw(t)
            canvas.draw()
            writer.append_data(np.asarray(canvas.buffer_rgba())[..., :3])
            if progress is not None:
                progress(t + 1)
    new.replace(file)


def _figure(recording: Recording) -> tuple[Any, Callable[[int], None]]:
    """The figure of the first step, and a function that changes it to any other step."""
    T = len(recording.rewards)
    figure = Figure(figsize=(10, 6), dpi=100, layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(4, 1))
    left, right, below = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, :])
    figure.suptitle(title(recording), fontsize=11)
    left.axis("off")
    picture = left.imshow(recording.pictures[0]) if recording.pictures else None
    text = None if picture else left.text(0.5, 0.5, "", ha="center", va="center", wrap=True, transform=left.transAxes)
    name, values = _memory(recording)
    heat = None
    if values is not None:
        limit = float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
        heat = right.imshow(values[0], cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        figure.colorbar(heat, ax=right, extend="both", label=f"{name} (no unit)")
        right.set(xlabel="column" if values.shape[2] > 1 else "", ylabel="row")
        if values.shape[2] == 1:
            right.set_xticks([])
    else:
        right.text(0.5, 0.5, "no state to show", ha="center", va="center", transform=right.transAxes)
        right.axis("off")
    below.bar(range(T), recording.rewards, color=_BLUE)
    below.set(xlabel="step", ylabel="reward", xlim=(-0.5, T - 0.5))
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    cursor = below.axvline(0, color="black", linewidth=1)
    words = action_words(recording)

    def draw(t: int) -> None:
        if picture is not None:
            picture.set_data(recording.pictures[t])
        if text is not None:
            text.set_text(f"observation\n{recording.texts[t]}")
        left.set_title(f"step {t}: action {words[t]}, reward {recording.rewards[t]:.3g}", fontsize=10)
        if heat is not None and values is not None:
            heat.set_data(values[t])
        cursor.set_xdata([t, t])

    draw(0)
    return figure, draw


def _memory(recording: Recording) -> tuple[str, np.ndarray | None]:
    """The name and values (T, rows, columns) of the memory to draw: the first Hadamard memory, otherwise the first state."""
    if recording.hadamard:
        memory = recording.hadamard[0].memory
        return "memory M", memory.reshape(len(memory), -1, memory.shape[-1])
    for name, values in recording.states.items():
        return f"state {name}", values if values.ndim == 3 else values[..., None]
    return "", None

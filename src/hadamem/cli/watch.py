"""The command `hadamem watch`. The modules that draw are imported when it is called."""

from __future__ import annotations

import os
import pathlib
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro
from rich.progress import Progress

from ..agents.training import load_policy
from ..checks import check_fields
from ..report.results import say_if_unfinished
from .console import console


@dataclass
class WatchOptions:
    """Show an episode of a trained policy, with its memory at every step, as one HTML page."""

    run: tyro.conf.Positional[pathlib.Path]
    """folder of the run"""
    out: pathlib.Path | None = None
    """page to write; None: watch.html in the folder of the run"""
    video: pathlib.Path | None = None
    """write a video to this .mp4 file instead of the page; needs pip install 'hadamem[video]'"""
    steps: int = 300
    """largest number of steps to show; fewer if the episode ends before"""
    env_options: tuple[str, ...] = ()
    """options of the environment, as name=value, that differ from those of the training, such as split=eval"""
    seed: int = 0
    """seed of the episode; 0 is the first that `hadamem evaluate` plays"""
    mode: Literal["greedy", "sampled"] = "greedy"
    """how actions are chosen: the most likely one, or drawn from the policy as in training"""
    open: bool = True
    """open the page in a browser, if there is a terminal and a screen"""


def watch(arguments: Sequence[str]) -> None:
    """Show an episode of a trained agent and its memory as a page or a video"""
    options = tyro.cli(WatchOptions, args=arguments, prog="hadamem watch")
    check_fields(options, ("steps",), at_least=1)
    check_fields(options, ("seed",), at_least=0)
    from ..watch.recording import record

    if options.video is not None:
        from ..watch.video import check_video, write_video

        check_video(options.video)
    policy, config = load_policy(options.run)
    say_if_unfinished(options.run)
    config.evaluate_options += options.env_options
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("playing", total=options.steps)
        made = record(
            policy,
            config,
            options.seed,
            options.steps,
            options.mode == "greedy",
            lambda done: progress.update(task, completed=done),
        )
        if options.video is not None:
            task = progress.add_task("drawing", total=len(made.rewards))
            write_video(made, options.video, lambda done: progress.update(task, completed=done))
    if options.video is not None:
        print(options.video)
        return
    from ..watch.viewer import write_page

    page = options.out or options.run / "watch.html"
    write_page(made, page)
    print(page)
    if options.open and _has_screen():
        webbrowser.open(page.resolve().as_uri())


def _has_screen() -> bool:
    """Whether the user would see a browser: there is a terminal and a screen."""
    display = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return sys.stdout.isatty() and display and "CI" not in os.environ

"""The command `hadamem watch`."""

from __future__ import annotations

import pathlib
import sys
import webbrowser
from collections.abc import Callable

import pytest

from hadamem.cli.watch import watch


def test_page_and_video(
    small_run: Callable[..., pathlib.Path],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    run = small_run(tmp_path / "run", "hadamem/TMazePassive-v0", "shm", (), ("corridor_length=4",))
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    capsys.readouterr()
    watch([str(run)])
    assert capsys.readouterr().out.strip() == str(run / "watch.html")
    assert not opened  # no terminal
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    watch([str(run), "--video", str(tmp_path / "out.mp4"), "--steps", "3"])
    with imageio.get_reader(tmp_path / "out.mp4") as video:
        assert video.count_frames() == 3
        assert video.get_data(0).std() > 5  # not one colour


def test_video_says_what_is_missing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ModuleNotFoundError, match=r"hadamem\[video\]"):
        watch([str(tmp_path), "--video", str(tmp_path / "out.mp4")])
    with pytest.raises(ValueError, match=r"must end in \.mp4"):
        watch([str(tmp_path), "--video", str(tmp_path / "out.gif")])

"""The page, as a reader meets it: in a browser, by mouse and by keys."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from hadamem.watch import Recording, write_page


@pytest.fixture
def opened(browser: Any, tmp_path: pathlib.Path) -> Iterator[Any]:
    """recording, options of the page -> the page; whatever it complains of fails the test."""
    wrong: list[str] = []
    pages = []

    def open_page(recording: Recording, **how: Any) -> Any:
        write_page(recording, tmp_path / "watch.html")
        page = browser.new_page(**how)
        page.set_default_timeout(20_000)
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
        page.goto((tmp_path / "watch.html").as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not wrong


def step(page: Any) -> int:
    return int(re.match(r"step (\d+) /", page.inner_text("#step"))[1])


def test_player(recorded: Callable[..., Recording], opened: Any) -> None:
    made = recorded("popgym-RepeatPreviousEasy-v0", "shm")
    page, last = opened(made), len(made.rewards) - 1
    assert step(page) == 0
    for key, wanted in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", last), ("Home", 0), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        assert step(page) == wanted
    for button, wanted in (("on", 1), ("last", last), ("back", last - 1), ("first", 0)):
        page.click(f"#{button}")
        assert step(page) == wanted
    page.locator("#slider").fill("7")
    assert step(page) == 7
    page.focus("#slider")
    page.keyboard.press("ArrowRight")
    assert step(page) == 8  # once, though the slider knows this key, too
    assert page.inner_text("#text") == made.texts[8]
    assert page.inner_text("#now-action") == str(made.actions[8, 0])
    page.click("#play")
    page.wait_for_function(
        "document.getElementById('step').textContent !== 'step 8 / ' + document.getElementById('slider').max"
    )
    assert page.inner_text("#play") == "Pause"
    page.locator("h1").click()  # away from the button
    page.keyboard.press("Space")
    assert page.inner_text("#play") == "Play"
    stopped = step(page)
    page.wait_for_timeout(600)
    assert step(page) == stopped


@pytest.mark.parametrize(
    ("memory", "options"),
    [
        ("shm", ()),
        ("shm", ("heads=2", "layers=2")),
        ("shm", ("calibration=neural",)),
        ("mlstm", ()),
        ("gla", ()),
        ("mamba", ()),
        ("linear_attention", ()),
    ],
)
def test_cells_are_those_of_the_agent(recorded: Callable[..., Recording], opened: Any, memory: str, options: tuple) -> None:
    made = recorded("popgym-RepeatPreviousEasy-v0", memory, options)
    page, trace = opened(made), made.hadamard[0]
    shown = page.evaluate(
        "['M', 'C', 'U'].map(name => Array.from({length: T}, (_, t) => Array.from(hadamemFields[name].values(t))))"
    )
    for values, own in zip(shown, (trace.memory, trace.calibrations(), trace.writes()), strict=True):
        np.testing.assert_allclose(np.array(values), own.reshape(len(own), -1), rtol=1e-4, atol=1e-5)


def test_trace_of_a_cell(recorded: Callable[..., Recording], opened: Any) -> None:
    made = recorded("popgym-RepeatPreviousEasy-v0", "shm")
    page = opened(made)
    page.keyboard.press("End")
    canvas = page.locator("#memory canvas").first
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] * 2.5 / 8, "y": box["height"] * 3.5 / 8})
    told = page.inner_text("#told")
    found = re.fullmatch(r"M\[3, 2\] = (\S+) at step (\d+)", told)
    assert found, told
    assert float(found[1]) == pytest.approx(made.hadamard[0].memory[-1, 0, 3, 2], rel=0.06, abs=1e-6)
    assert page.locator("#line path").count() == 1
    page.focus("#slider")
    page.keyboard.press("Home")
    assert page.inner_text("#told").endswith("at step 0")
    canvas.focus()
    page.keyboard.press("Shift+ArrowDown")
    assert page.inner_text("#told").startswith("M[4, 2]")


@pytest.mark.parametrize("how", [{"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}, "has_touch": True}])
def test_vector_memory_dark_and_small(recorded: Callable[..., Recording], opened: Any, how: dict) -> None:
    made = recorded("hadamem/TMazePassive-v0", "gru", (), ("corridor_length=6",))
    page = opened(made, **how)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.get_attribute("#picture", "src").startswith("data:image/png;base64,")
    canvas = page.locator("#memory canvas").first
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 4.5 / 7, "y": box["height"] * 0.5 / 8})
    assert step(page) == 4
    assert page.inner_text("#told").startswith("hidden[0] = ")
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == ("viewport" in how)
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_every_kind_opens(recorded: Callable[..., Recording], opened: Any) -> None:
    for env, memory, options in (
        ("hadamem/PointRobot-v0", "delta_net", ("horizon=9",)),  # a matrix that is no Hadamard memory, inner episodes, a Box
        ("popgym-RepeatPreviousEasy-v0", "mlp", ()),  # no state
        ("popgym-RepeatPreviousEasy-v0", "s5", ()),  # a complex one
    ):
        page = opened(recorded(env, memory, (), options))
        page.keyboard.press("End")
        text = page.inner_text("main")
        assert ("no state" in text) == (memory == "mlp")
        assert ("imaginary" in text) == (memory == "s5")
        assert page.is_visible("#inner") == ("PointRobot" in env)


def test_page_holds_any_text(recorded: Callable[..., Recording], tmp_path: pathlib.Path) -> None:
    made = recorded("popgym-RepeatPreviousEasy-v0", "gru")
    made.notes.append("</script><b>")
    try:
        write_page(made, tmp_path / "watch.html")
    finally:
        made.notes.pop()
    assert (tmp_path / "watch.html").read_text().count("</script>") == 2

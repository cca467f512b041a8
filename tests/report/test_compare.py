"""`hadamem compare` as a user meets it: files, pictures, the page."""

from __future__ import annotations

import csv
import json
import pathlib
import re
import shlex
from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest
from made import EASY, WIND, make_result

from hadamem.agents.config import config_from_dict
from hadamem.cli import train as cli
from hadamem.cli.compare import compare
from hadamem.recipes.arguments import read_train
from hadamem.recipes.command_line import train_command
from hadamem.recipes.presets import PRESETS, preset_config
from hadamem.report.results import config_key, write_result

VOID = {"meta", "br", "line", "path"}


class Page(HTMLParser):
    """Checks that every tag is closed; keeps what is looked at below."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A comparison of eight memories on two tasks."""
    folder = tmp_path_factory.mktemp("compare")
    memories = ("shm", "gru", "mlp", "lstm", "ffm", "lru", "s5", "mingru")
    for i, memory in enumerate(memories):
        for env in (EASY, WIND):
            for seed in range(2):
                result = make_result(env, memory, seed, 0.1 * i + 0.05 * seed)
                write_result(result, folder / "data" / f"{memory}-{env.replace('/', '.')}-{seed}.run.json")
    compare([str(folder / "data"), "--out", str(folder / "out"), "--reps", "200"])
    return folder / "out"


def test_files_hold_a_line_for_each_run_and_for_each_memory_on_each_task(written: pathlib.Path) -> None:
    runs = list(csv.DictReader((written / "results.csv").open()))
    assert len(runs) == 32
    last = next(r for r in runs if (r["task"], r["memory"], r["seed"]) == ("hadamem/Wind", "mingru", "1"))
    assert float(last["score"]) == pytest.approx(0.75)
    assert float(last["normalised"]) == pytest.approx(1.0)
    assert (last["steps"], last["seconds"], last["machine"]) == ("100000", "120.0", "an <abacus>, 2 cores")
    summary = list(csv.DictReader((written / "summary.csv").open()))
    assert len(summary) == 8 * 3
    row = next(r for r in summary if (r["task"], r["memory"]) == ("popgym-AutoencodeEasy", "mlp"))
    assert float(row["mean"]) == pytest.approx(0.225)
    assert float(row["improvement"]) == 1.0
    assert float(row["mean_low"]) == pytest.approx(0.2)
    content = json.loads((written / "summary.json").read_text())
    assert content["baseline"] == "gru"
    assert content["command"].startswith("hadamem compare ")
    assert len(content["summary"]) == 24


def test_pictures(written: pathlib.Path) -> None:
    for name in ("curves", "curves-2", "aggregates", "profiles"):  # eight memories are more than there are colours
        assert (written / f"{name}.png").stat().st_size > 10_000
        assert (written / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_the_page_is_whole_and_loads_nothing(written: pathlib.Path) -> None:
    text = (written / "report.html").read_text()
    page = Page(text)
    loading = [attributes[name] for _, attributes in page.found for name in ("src", "href") if name in attributes]
    assert all(target.startswith("#") for target in loading)
    assert not any(tag in ("link", "img", "iframe") for tag, _ in page.found)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in text
    assert "@@" not in page.text


def test_the_page_tells_numbers_as_text_and_what_they_were_made_with(written: pathlib.Path) -> None:
    page = Page((written / "report.html").read_text())
    for told in ("0.225 [0.200, 0.250]", "an <abacus>, 2 cores", "100,000", "2 min", "hadamem train --env hadamem/Wind-v0"):
        assert told in page.text
    heads = [attributes for tag, attributes in page.found if tag == "th"]
    assert heads
    assert {attributes.get("scope") for attributes in heads} == {"row", "col"}
    charts = [attributes for _, attributes in page.found if attributes.get("role") == "img"]
    assert len(charts) == 2 + 4 + 1
    assert all(attributes["aria-label"] for attributes in charts)
    assert sum(tag == "details" for tag, _ in page.found) == 8  # a memory has one recipe for all tasks


def test_one_memory_and_one_run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_result(make_result(score=0.123), tmp_path / "one.run.json")
    compare([str(tmp_path), "--out", str(tmp_path / "out"), "--reps", "200"])
    told = capsys.readouterr()
    assert "0.123" in told.out
    assert "no interval" in told.err
    assert told.out.splitlines()[-1] == str(tmp_path / "out" / "report.html")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["summary"][0]["mean_low"] is None


def test_nothing_to_compare(tmp_path: pathlib.Path) -> None:
    for arguments, message in [((), "which runs"), ((tmp_path / "no",), "there is no "), ((tmp_path,), "no runs there")]:
        with pytest.raises(ValueError, match=message):
            compare([*map(str, arguments), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("preset", PRESETS)
def test_the_command_of_every_preset_trains_what_it_does(preset: str) -> None:
    for env, memory in [(EASY, "shm"), (WIND, "gru"), ("hadamem/TMazePassive-v0", "shm")]:
        config = replace(preset_config(preset, env, memory), env=env, memory=memory, seed=2)
        got = read_train(shlex.split(train_command(config))[2:]).config
        assert config_key(asdict(got)) == config_key(asdict(config))


def test_the_command_says_what_no_preset_leaves_out() -> None:
    words = shlex.split(train_command(config_from_dict(make_result(memory="shm", memory_options=("theta=fixed",)).config)))
    assert {"theta=fixed", "feature_map=relu_sum", "read_norm=false"} <= {*words}


@pytest.mark.parametrize("memory", ["shm", "mlp"])
def test_the_command_of_a_configuration_trains_it(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = make_result(EASY, memory, 3, env_options=("num_decks=2",), memory_size=12, batched=False, evaluate_every=5000)
    config = config_from_dict(result.config)
    config.ppo.num_envs, config.ppo.schedule, config.ppo.network.position_code = 96, "constant", False
    if memory == "shm":
        config.memory_options = (*config.memory_options, "rows=64")
    got = []
    monkeypatch.setattr(cli, "run_training", lambda given, path, resume, progress: bool(got.append(given)) or True)
    cli.train(shlex.split(train_command(config))[2:])
    assert got == [config]

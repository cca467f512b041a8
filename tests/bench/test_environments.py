"""benchmarks/environments.py: what it says of a try that works, of one that fails, and of a package that is not there."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys
from types import ModuleType

import pytest
from gymnasium.utils.env_checker import check_env

from hadamem.text import markdown_table

ROOT = pathlib.Path(__file__).parents[2]


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_tries_make_rows_and_a_page(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("environments", monkeypatch)
    tries = (
        module.Try("popgym-RepeatFirst[EM]*", "popgym, gymnasium", "a suit; choice of 4", remark="a family"),
        module.Try("Nowhere-v0", "gymnasium", "nothing", part=2),
        module.Try("Absent-v0", "a-package-that-is-not-there", "nothing"),
    )
    monkeypatch.setattr(module, "TRIES", tries)
    page = tmp_path / "page.md"
    page.write_text(f"above\n{module.BEGIN}\nold\n{module.END}\nbelow\n")
    module.main(module.Options(steps=64, data=tmp_path / "rows.json", page=page, work=tmp_path / "work"))
    assert "Absent-v0: skipped, a-package-that-is-not-there is not installed" in capsys.readouterr().out
    family, failed = json.loads((tmp_path / "rows.json").read_text()).values()
    assert family["environment"] == "`popgym-RepeatFirst[EM]*`, all 2 ids"
    assert family["package"].startswith("popgym ")
    assert [family[column] for column in ("train", "evaluate", "watch", "steps", "remark")] == [
        "yes",
        "yes",
        "numbers",
        "64",
        "a family",
    ]
    assert [failed[column] for column in ("train", "evaluate", "watch", "steps", "steps/s")] == ["no", "no", "no", "32", ""]
    assert failed["remark"].startswith("train: error: unknown environment 'Nowhere-v0'")
    assert page.read_text() == f"above\n{module.BEGIN}\n{markdown_table([family, failed])}\n{module.END}\nbelow\n"


def test_the_page_shows_the_rows_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = json.loads((ROOT / "docs" / "results" / "data" / "environments.json").read_text())
    names = [one.env for one in load("environments", monkeypatch).TRIES]
    assert markdown_table([rows[name] for name in names if name in rows]) in (ROOT / "docs" / "environments.md").read_text()


def test_its_own_environment_keeps_gymnasiums_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    check_env(load("own_environments", monkeypatch).Throw(), skip_render_check=True)

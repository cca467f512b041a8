"""docs/memories.md says what the code says."""

from __future__ import annotations

import json
import pathlib

import pytest

from hadamem.memory import MEMORIES, memory_options
from hadamem.recipes.arguments import read_train
from hadamem.studies import catalogue

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "memories.md"


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert catalogue.page({}, text) == text, "run: hadamem list memories --markdown docs/memories.md"


@pytest.mark.parametrize("name", MEMORIES)
def test_every_memory_has_equations_and_a_paper(name: str) -> None:
    assert " = " in catalogue.equations(name)
    assert "Args" not in catalogue.equations(name)
    assert MEMORIES[name].paper or name == "mlp"


@pytest.mark.parametrize("name", MEMORIES)
def test_every_option_is_explained(name: str) -> None:
    options = catalogue.options(name)
    assert [option.option.partition("=")[0] for option in options] == list(memory_options(name))
    assert not [option for option in options if len(option.meaning) < 2]


def test_what_training_gives_can_be_typed() -> None:
    config = read_train(catalogue.in_training("shm").split()).config
    assert config == read_train([]).config
    assert catalogue.in_training("mlp") == "--memory mlp"


def test_results_take_the_place_of_older_ones(tmp_path: pathlib.Path) -> None:
    before = catalogue.page({})
    assert before.count("Not measured yet") == 3
    file = tmp_path / "recall.json"
    for accuracy in (0.25, 0.75):
        file.write_text(json.dumps([{"memory": "gru", "copy": accuracy, "associative": 1.0, "first": 1.0, "seconds": 1.0}]))
        before = catalogue.page({"recall": file}, before)
    assert "| gru | 0.75 |" in before
    assert "0.25" not in before
    assert catalogue.page({}, before) == before

"""An overview of all memories: what `hadamem list memories` prints, and the page docs/memories.md."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .. import explained
from ..agents.config import TrainConfig
from ..bench import memories
from ..explained import Option
from ..memory import MEMORIES, memory_class, memory_options
from ..options import read_json
from ..recipes.presets import default_preset, preset_config
from ..text import markdown_table
from . import recall, returns

#: The commands whose results are in the page, each with a function from its JSON to the tables of the page (title -> rows).
RESULTS: dict[str, tuple[str, Callable[[Any], dict[str, list[dict[str, str]]]]]] = {
    "recall": ("hadamem bench recall", lambda json: {"": recall.shown(read_json(list[recall.Row], json))}),
    "costs": ("hadamem bench memories", lambda json: memories.shown(read_json(memories.Tables, json))),
    "returns": ("hadamem bench returns", lambda json: {"": returns.shown(read_json(list[returns.Row], json))}),
}


@dataclass(frozen=True)
class Row:
    """A memory at its default size.

    Attributes:
        name: its name.
        about: the first words of its docstring.
        size: name and value of the argument that sets its size.
        state_bytes: bytes of the state of one row.
        parameters: number of learned parameters.
        paper: the paper that published it.
    """

    name: str
    about: str
    size: str
    state_bytes: int
    parameters: int
    paper: str


def rows(names: Sequence[str]) -> list[Row]:
    """A row for each named memory, at its default size."""
    return [_row(name) for name in names]


def options(name: str) -> list[Option]:
    """The options of a memory, with the meanings that its docstring gives them."""
    layers = "number of such memories, each of which takes the outputs of the one before."
    return explained.options(memory_class(name), memory_options(name), {"layers": layers})


def in_training(name: str) -> str:
    """The words on a command line for the size and the options that `hadamem train` gives a memory by default."""
    config = preset_config(default_preset(None, None), TrainConfig.env, name)
    size = [] if config.memory_size is None else ["--memory-size", str(config.memory_size)]
    return " ".join(["--memory", name, *size, *(["--memory-options", *config.memory_options] if config.memory_options else [])])


def _row(name: str) -> Row:
    torch.manual_seed(0)
    memory = memories.build(name, None)
    return Row(
        name=name,
        about=re.split(r"[:(.]", description(name))[0].strip(),
        size=f"{(size := memory.size_argument)} = {getattr(memory, size, '?')}",
        state_bytes=memories.state_bytes(memory),
        parameters=memories.count_parameters(memory),
        paper=memory.paper,
    )


def description(name: str) -> str:
    """What the docstring of a memory says before the example and the arguments."""
    return explained.description(memory_class(name))


def equations(name: str) -> str:
    """The equations of a memory: the indented lines of its docstring before the example and the arguments."""
    lines = re.findall(r"^    (.*)$", description(name), re.MULTILINE)
    return "\n".join(lines)


def page(files: dict[str, pathlib.Path | None], old: str = "") -> str:
    """The text of docs/memories.md, in which only the results are measured.

    Args:
        files: JSON files that the commands of RESULTS wrote, by the names in RESULTS; without a file, the old table stays.
        old: the text of the old page.
    """
    listed = rows(tuple(MEMORIES))
    parts = [_HEAD, markdown_table([{head: getattr(r, n) for head, n in _COLUMNS.items()} for r in listed])]
    parts += ["\n## What they compute\n\nx_t is the input, y_t the output, `*` a product of elements.\n"]
    for r in listed:
        source = f" ({r.paper})" if r.paper else ""
        parts += [f"### `{r.name}`\n\n{r.about}{source}.", f"\n```text\n{equations(r.name)}\n```\n"]
        parts += [f"Options: {', '.join(f'`{option.option}`' for option in options(r.name))}\n"]
    for name, about in _RESULTS_TEXT.items():
        parts += [about, _result(name, files.get(name), old), ""]
    return "\n".join(parts)


def _result(name: str, file: pathlib.Path | None, old: str) -> str:
    command, shown = RESULTS[name]
    begin, end = f"<!-- results: {command} -->", "<!-- end -->"
    if file is None:
        kept = re.search(f"{re.escape(begin)}.*?{end}", old, re.DOTALL)
        return kept[0] if kept else f"{begin}\nNot measured yet.\n{end}"
    tables = shown(json.loads(file.read_text()))
    return "\n".join([begin, *(f"{title}\n\n{markdown_table(rows)}\n".lstrip() for title, rows in tables.items()), end])


_COLUMNS = {"memory": "name", "size": "size", "state, bytes": "state_bytes", "parameters": "parameters", "paper": "paper"}

_HEAD = """# Memories

Every memory is chosen by name (`--memory NAME`, `make_memory(NAME, ...)`), obeys one contract (see the
[guide](guide.md)) and passes one test, `tests/memory/test_contract.py`. Sizes are those of one row at 64 features
in and out and the default size. `hadamem list memories NAME` explains one and its options.

This page is written by `hadamem list memories --markdown docs/memories.md`.
"""

_RESULTS_TEXT = {
    "recall": """## What they learn

Three toys, a short training each (1,500, 1,500 and 500 batches of 32 rows): *copy* 8 symbols, each 32 steps after it
was shown; *associative* recall of 8 pairs of key and value; the *first*, marked, of 128 symbols. Accuracy on fresh
rows, with 8 answers to choose from: chance is 0.125. Learned means 0.9; what is expected stands in
`src/hadamem/studies/recall.py`. All are given a sine code of the step, as in a policy, and the size and
options of the preset `fast`. One seed, one learning rate: with others, what is near 0.9 may fall on the other side,
and what failed may not. Printed by `hadamem bench recall`:
""",
    "costs": """## What they cost

µs for one step of one row at (64, 128), episodes of 50 steps on average, forward and backward; *resets* is how many
times the cost without resets that is; *acting* is one step of 64 rows, forward. Printed by `hadamem bench memories`,
which drew the picture with `--plot`:

![cost of a step against the length of a sequence](costs.png)
""",
    "returns": """## What they are worth to an agent

PPO on `popgym-RepeatPreviousEasy-v0` (returns from -1 to 1; no memory: about -0.5), preset `fast`, one seed, one
thread each. [Sixteen more tasks](results/heldout.md). Printed by `hadamem bench returns`:
""",
}

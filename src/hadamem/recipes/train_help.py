"""The help of `hadamem train`: the most important options in a few groups, and all options on request."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from itertools import pairwise
from typing import Annotated, Any, NoReturn, get_args, get_type_hints

import tyro

# The options that --help shows, by group. Options that only some agents have are marked with the names of these agents.
GROUPS = {
    "task": ("env", "env_options", "inputs"),
    "agent": ("agent", "preset", "memory", "memory_size", "memory_options"),
    "learning": (
        "steps",
        "learning_rate",
        "gamma",
        "num_envs",
        "num_steps",
        "epochs",  # ppo
        "entropy_coefficient",  # ppo
        "updates_per_step",  # sac, r2d2
        "temperature",  # sac
        "epsilon",  # r2d2
    ),
    "run": ("out", "resume", "seed", "device", "threads"),
}


@dataclass
class Option:
    """An option of a command: a field of the dataclass `owner`."""

    name: str
    owner: type
    type: Any
    help: str
    default: Any


def show_help(default: Any, prog: str, show_all: bool) -> NoReturn:
    """Print the help and end the program.

    Args:
        default: a dataclass whose fields are options or dataclasses of options; its values are shown as the defaults.
        prog: the command, as it is shown in the help.
        show_all: show all options, not only those in GROUPS.
    """
    options = {option.name: option for option in list_options(default)}
    groups = {title: [options.pop(name) for name in names if name in options] for title, names in GROUPS.items()}
    if show_all:
        for option in options.values():
            groups.setdefault(option.owner.__name__.removesuffix("Config"), []).append(option)
    boxes = [(title, _box(title, group)) for title, group in groups.items()]  # tyro draws a box around every nested dataclass
    help_all = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="show all options and exit")]
    page = make_dataclass("Page", [("help_all", help_all), *((title, type(box)) for title, box in boxes)])
    about = f"{type(default).__doc__}\n\nDefaults are those for the task, memory, agent and preset on this command line."
    shown = page(False, *(box for _, box in boxes))
    tyro.cli(page, args=["--help"], default=shown, prog=prog, description=about, config=(tyro.conf.OmitArgPrefixes,))
    raise AssertionError("tyro ends the program after a help")


def list_options(config: Any) -> Iterator[Option]:
    """The options of a dataclass and of the dataclasses in it."""
    owner = type(config)
    types, helps = get_type_hints(owner, include_extras=True), _field_docstrings(owner)
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from list_options(value)
        elif not any(is_dataclass(part) for part in get_args(types[field.name])):  # else: an agent not chosen
            yield Option(field.name, owner, types[field.name], helps[field.name], value)


def _box(title: str, options: list[Option]) -> Any:
    """A dataclass that holds the options with their defaults."""
    types = [(option.name, Annotated[option.type, tyro.conf.arg(help=option.help)]) for option in options]
    box = make_dataclass(title, types)
    box.__doc__ = ""
    return box(*(option.default for option in options))


def _field_docstrings(owner: type) -> dict[str, str]:
    """The docstrings of the fields of a dataclass and of its base classes, by field name, each on one line."""
    texts = dict[str, str]()
    for base in owner.__bases__:
        if is_dataclass(base):
            texts |= _field_docstrings(base)
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            texts[field.target.id] = " ".join(ast.literal_eval(below.value).split())
    return texts

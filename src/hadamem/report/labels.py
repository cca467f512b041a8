"""Short labels for the memories of runs, with only the settings that tell apart runs on the same task."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from .results import Result, config_key

# settings that are named elsewhere or do not define the method, and prefixes of those of checkpoints and evaluations
_ELSEWHERE = {"env", "env_options", "memory", "memory_options", "agent", "steps", "seed", "threads", "device", "batched"}
_WATCHING = ("checkpoint_", "evaluate_")


def make_labels(results: Sequence[Result]) -> list[str]:
    """A label for each result: the name of its memory, with the agent in brackets unless it is PPO; then the settings in which
    runs of this memory on the same task differ, such as "shm 64 theta=fixed" and "shm 24 theta=random"."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, result in enumerate(results):
        groups[_name(result)].append(i)
    labels = [""] * len(results)
    for name, members in groups.items():
        settings = {i: flat_settings(results[i].config) for i in members}
        differing = _differing([(results[i].task, settings[i]) for i in members])
        for i in members:
            words = [_word(key, settings[i][key]) for key in differing if settings[i].get(key) is not None]
            labels[i] = " ".join([name, *words])
    return labels


def flat_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a configuration that define the method, by name: "memory_size", "theta", "ppo.network.embed_size"."""
    config = json.loads(config_key(config))  # in it, 30 and 30.0 are equal, and fields newer than the run have their defaults
    options = dict(option.split("=", 1) for option in config["memory_options"])
    rest = {name: value for name, value in config.items() if name not in _ELSEWHERE and not name.startswith(_WATCHING)}
    return _flat(rest) | options


def _name(result: Result) -> str:
    agent = result.config["agent"]
    return result.config["memory"] + ("" if agent == "ppo" else f" ({agent})")


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _differing(settings: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """The names of settings that suffice to tell apart all runs that differ on some task, those of the memory first."""
    names = sorted({name: None for _, options in settings for name in options}, key=lambda name: "." in name)
    chosen: list[str] = []
    for name in names:
        if _kinds(settings, [*chosen, name]) > _kinds(settings, chosen):
            chosen.append(name)
    for name in sorted(chosen, key=lambda name: "." not in name):  # drop names that later ones make needless
        rest = [other for other in chosen if other != name]
        if _kinds(settings, rest) == _kinds(settings, chosen):
            chosen = rest
    return chosen


def _kinds(settings: list[tuple[str, dict[str, Any]]], names: list[str]) -> int:
    return len({(task, *(str(options.get(name)) for name in names)) for task, options in settings})


def _word(name: str, value: Any) -> str:
    if name == "memory_size":
        return str(value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{name.rpartition('.')[2]}={text}"

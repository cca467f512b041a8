"""The list of known environments, the import of packages that register ids, and the error for an unknown id."""

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from ..options import read_options
from .border import THEIRS, raise_as_theirs
from .from_python import HERE, register_callable
from .popgym import TASKS
from .worlds import batched_world, world, world_ids

# The module that each of Gymnasium's families of environments needs; it may not be installed.
_NEEDS = {"box2d": "Box2D", "mujoco": "mujoco", "phys2d": "jax", "tabular": "jax"}

_MODULES: dict[str, str] = {}  # module that registered an id which has to be written as "module:Name-v0"
_FAILED: dict[str, str] = {}  # error of each module that could not be imported while searching for an id

# Beginnings of the ids of popular packages, and the package to install for each.
_PACKAGES = {
    "ale/": "ale-py",
    "minigrid-": "minigrid",
    "babyai-": "minigrid",
    "miniworld-": "miniworld",
    "highway-": "highway-env",
    "flappybird-": "flappy-bird-gymnasium",
    "fetch": "gymnasium-robotics",
    "pointmaze_": "gymnasium-robotics",
    "antmaze_": "gymnasium-robotics",
    "handmanipulate": "gymnasium-robotics",
    "adroithand": "gymnasium-robotics",
    "frankakitchen-": "gymnasium-robotics",
    "nethack": "nle",
}


@dataclass(frozen=True)
class Task:
    """A task that can be made with the installed packages.

    Attributes:
        name: its id.
        observation, action: short descriptions of its spaces; "" where finding them out would need a simulator.
        max_steps: largest number of steps of an episode; None if unknown or unlimited.
        source: "popgym", "gymnasium", "hadamem" or the namespace of another package.
        batched: whether hadamem steps all environments in one array.
    """

    name: str
    observation: str
    action: str
    max_steps: int | None
    source: str
    batched: bool


def list_tasks() -> list[Task]:
    """All tasks that can be made with the installed packages, sorted by source and name."""
    rows = _popgym_tasks()
    for spec in gymnasium.registry.values():
        source, _, path = str(spec.entry_point).partition(".")
        family = path.removeprefix("envs.").partition(".")[0]
        if source in ("gymnasium", "hadamem") and _installed(_NEEDS.get(family)) and spec is _newest(spec):
            source = spec.namespace or source  # Gymnasium's tasks in a wrapper of hadamem have the namespace hadamem
            ours = spec.id in world_ids()
            rows.append(_world(spec.id, source) if ours else _task(spec.id, "", "", spec.max_episode_steps, source))
    return sorted(rows, key=lambda task: (task.source, task.name))


def load(id: str) -> str:
    """Import the module that registers an id, and return the id under which Gymnasium then knows it.

    An id is "module:Name-v0"; or "Name-v0" if the module is POPGym or an installed package that requires Gymnasium (or has it
    as an optional requirement, if the id begins like the package's name, as with ale-py); or "module:name" for a class or
    function of the module that makes an environment.

    Raises:
        ValueError: there is no such module.
        ModuleNotFoundError: the module exists, but another module that it needs is missing.
        EnvironmentFailedError: importing the module raised any other exception.
    """
    module, colon, name = id.rpartition(":")
    if id.startswith("popgym-"):
        module = "popgym"
    elif not colon:
        if not _is_registered(name):
            _search(name)
        return name
    if not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"{module!r} in {id!r} is not the name of a module, as in 'package.module:Name-v0'")
    try:
        _import(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ValueError(f"cannot import {module!r}, from which {id!r} should come: {error}") from error
    except THEIRS as error:
        raise_as_theirs(f"importing {module!r}", error)
    if colon and not _is_registered(name) and callable(make := getattr(sys.modules[module], name, None)):
        return register_callable(id, make)
    return name


def _import(module: str) -> None:
    """Import a module, and remember which ids it registered."""
    before = set(gymnasium.registry)
    importlib.import_module(module)
    if module != "popgym":  # its ids are found without it
        _MODULES.update(dict.fromkeys(set(gymnasium.registry) - before, module))


def _is_registered(name: str) -> bool:
    try:
        gymnasium.spec(name)
    except (gymnasium.error.NameNotFound, gymnasium.error.NamespaceNotFound):
        return False
    except gymnasium.error.Error:  # registered, but in other versions
        pass
    return True


def _search(name: str) -> None:
    """Import installed packages that need Gymnasium until one of them registers `name`.

    The package listed in _PACKAGES for the name is imported first, then the others, in the order of the similarity of their
    names. A package for which Gymnasium is optional, such as ale-py, is only imported if `name` begins like the package's name,
    since many such packages are large and unrelated to environments.
    """
    modules: list[str] = []
    first: list[str] = []
    words = name.casefold()
    known = _package_of(name)
    for package in importlib.metadata.distributions():
        needs = [need for need in package.requires or [] if re.match(r"gymnasium\b", need, re.IGNORECASE)]
        if any("extra ==" not in need for need in needs) or (needs and words.startswith(package.name.casefold()[:3])):
            names = (package.read_text("top_level.txt") or package.name.replace("-", "_")).split()
            (first if package.name.casefold().replace("_", "-") == known else modules).extend(names)
    modules.sort(key=lambda module: -difflib.SequenceMatcher(None, module.casefold(), words).ratio())
    for module in first + modules:
        try:
            _import(module)
        except Exception as error:  # a broken package must not stop the search
            _FAILED[module] = f"{type(error).__name__}: {error}".partition("\n")[0]
            continue
        if _is_registered(name):
            return


def parse_options(id: str, texts: Sequence[str]) -> dict[str, Any]:
    """Options of an environment from the command line, see `hadamem.options`."""
    return read_options(id, texts, options_of(id))


def options_of(id: str) -> dict[str, inspect.Parameter] | None:
    """The options of a batched task; None for others, whose options their own code checks."""
    if (make := world(id)) is None:
        return None
    parameters = inspect.signature(make, eval_str=True).parameters
    return {name: parameter for name, parameter in parameters.items() if name not in ("num_envs", "render_mode")}


def unknown(id: str) -> ValueError:
    """Build the error for an id that is not registered, with the most similar known names."""
    if id.startswith(HERE):
        return ValueError(
            f"{id} was an object of the Python program that trained on it, and has to be given again in Python: "
            "hadamem.load(path, env=...)"
        )
    known = {task.name for task in list_tasks()} | set(gymnasium.registry)
    folded = {name.casefold(): name for name in sorted(known)}
    typed = id.rpartition(":")[2].casefold()
    near = [folded[name] for name in difflib.get_close_matches(typed, folded, n=4, cutoff=0.5)]
    near = [f"{_MODULES[name]}:{name}" if name in _MODULES else name for name in near]
    hint = f"did you mean {', '.join(near)}?" if near else "hadamem.envs.list_tasks() names those there are"
    module, _, name = id.rpartition(":")
    if module in sys.modules and not near:
        hint = f"{module} has no class or function {name}, and registers no environment of that name when it is imported"
    package = _package_of(typed)
    if package is not None and not _has_package(package):
        hint = f"such names come with a package that is not installed: pip install {package}"
    failed = ", ".join(f"{module} ({text})" for module, text in _FAILED.items())
    or_else = f", or one of a package that cannot be imported: {failed}" if failed else ""
    return ValueError(f"unknown environment {id!r}{or_else}; {hint}")


def _popgym_tasks() -> list[Task]:
    importlib.import_module("popgym")  # registers its ids; imported here because it is slow
    rows = []
    for spec in list(gymnasium.registry.values()):
        if spec.id.startswith("popgym-"):
            env = gymnasium.make(spec, disable_env_checker=True).unwrapped
            steps = getattr(env, "max_episode_length", getattr(env, "episode_length", None))
            rows.append(_task(spec.id, _words(env.observation_space), _words(env.action_space), steps, "popgym"))
    return rows


def _world(id: str, source: str) -> Task:
    env = batched_world(id, 1)
    return _task(id, _words(env.single_observation_space), _words(env.single_action_space), env.max_steps, source)


def _task(name: str, observation: str, action: str, max_steps: int | None, source: str) -> Task:
    return Task(name, observation, action, max_steps, source, batched=name in TASKS or name in world_ids())


def _newest(spec: EnvSpec) -> EnvSpec:
    same = [s for s in gymnasium.registry.values() if (s.namespace, s.name) == (spec.namespace, spec.name)]
    return max(same, key=lambda s: s.version or 0)


def _package_of(name: str) -> str | None:
    """The package in _PACKAGES to install for an id; None if it is not listed there."""
    return next((package for start, package in _PACKAGES.items() if name.casefold().startswith(start)), None)


def _has_package(name: str) -> bool:
    return any(importlib.metadata.distributions(name=name))


def _installed(module: str | None) -> bool:
    return module is None or importlib.util.find_spec(module) is not None


def _words(space: spaces.Space[Any]) -> str:
    """Describe a space in a few characters, such as "Discrete(4)", "MultiDiscrete(52 x 3)" or "Box(96, 96, 3)"."""
    name = type(space).__name__
    if isinstance(space, spaces.Tuple):
        return f"{name}({', '.join(map(_words, space.spaces))})"
    if isinstance(space, spaces.Dict):
        return f"{name}({', '.join(f'{key}: {_words(child)}' for key, child in space.spaces.items())})"
    if isinstance(space, spaces.Discrete):
        return f"{name}({space.n})"
    if isinstance(space, spaces.MultiDiscrete):
        counts = space.nvec.ravel().tolist()
        return f"{name}({len(counts)} x {counts[0]})" if len(set(counts)) == 1 else f"{name}({counts})"
    return f"{name}({', '.join(map(str, space.shape or ()))})"

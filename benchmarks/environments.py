"""Trains, evaluates and watches an agent in environments of many packages, and prints a table of what worked.

Every environment is tried as a user would try it: with `hadamem train`, `hadamem evaluate` and `hadamem watch`, each without a
display and in a process of its own (environments of a family in this process); vectors of environments with a Python program.
Environments whose packages are not installed are skipped, with a message.

    python benchmarks/environments.py                                   # all, to the terminal
    python benchmarks/environments.py --only 'ALE/*' --steps 1024
    python benchmarks/environments.py --data docs/results/data/environments.json --page docs/environments.md
"""

from __future__ import annotations

import fnmatch
import importlib.metadata
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import tyro

from hadamem.cli.main import run_command
from hadamem.disk import write_whole
from hadamem.envs import list_tasks
from hadamem.text import markdown_table

HERE = pathlib.Path(__file__).parent
WORK = pathlib.Path(tempfile.gettempdir()) / "hadamem-environments"
LONGEST = 900  # seconds that a command may take
BEGIN, END = "<!-- results: python benchmarks/environments.py -->", "<!-- end -->"


@dataclass(frozen=True)
class Try:
    """An environment to try.

    Attributes:
        env: its id; a family such as "popgym-*" stands for all ids that match; for a `program`, its name in the table.
        package: names of the distributions that contain it, separated by commas.
        spaces: observation and action, in words.
        options: further options of `hadamem train`.
        program: Python code that makes a vector of environments called `vector`; "" for the environments of an id.
        variables: environment variables of the process, such as those that let a renderer work without a display.
        part: number by which the steps of the training are divided, since the environment is slow.
        remark: remark for readers of the table.
    """

    env: str
    package: str
    spaces: str
    options: tuple[str, ...] = ()
    program: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    part: int = 1
    remark: str = ""


PICTURES = ("--gray", "--resize", "84", "84", "--frame-skip", "4")
HEADLESS = (("PYGLET_HEADLESS", "true"),)
VECTOR = "import gymnasium\nvector = gymnasium.make_vec('CartPole-v1', num_envs=8, vectorization_mode='{}')"

TRIES = (
    Try("popgym-*", "popgym", "all of POPGym's kinds", part=8),
    Try("CartPole-v1", "gymnasium", "vector; choice of 2"),
    Try("hadamem/CartPoleNoVel-v0", "gymnasium", "vector; choice of 2", remark="positions only"),
    Try("hadamem/TMazePassive-v0", "hadamem", "vector; choice of 4", remark="stepped in one array"),
    Try("Taxi-v4", "gymnasium", "one number of 500; choice of 6", remark='mask in `info["action_mask"]`'),
    Try(
        "CarRacing-v3",
        "gymnasium, box2d",
        "picture 96 x 96 x 3; Box of 3",
        ("--gray", "--resize", "48", "48", "--frame-skip", "4"),
        part=4,
    ),
    Try("MiniGrid-MemoryS7-v0", "minigrid", "Dict of a grid of codes, a direction, a text; choice of 7"),
    Try("ALE/Pong-v5", "ale-py", "picture 210 x 160 x 3; choice of 6", PICTURES, part=2),
    Try("MiniWorld-OneRoom-v0", "miniworld", "picture 60 x 80 x 3; choice of 3", variables=HEADLESS, part=2),
    Try("HalfCheetah-v5", "gymnasium, mujoco", "vector; Box of 6"),
    Try("Hopper-v5", "gymnasium, mujoco", "vector; Box of 3"),
    Try("PointMaze_UMaze-v3", "gymnasium-robotics, mujoco", "Dict with goals; Box of 2"),
    Try("FetchReach-v4", "gymnasium-robotics, mujoco", "Dict with goals; Box of 4", remark="fails with MuJoCo 4"),
    Try("highway-fast-v0", "highway-env", "table 5 x 5; choice of 5", part=8),
    Try("parking-v0", "highway-env", "Dict with goals; Box of 2", part=4),
    Try("FlappyBird-v0", "flappy-bird-gymnasium", "vector of 180; choice of 2"),
    Try(
        "NetHackScore-v0",
        "nle",
        "Dict of 14 parts; choice of 23",
        ("--observe", "blstats", "chars", "message"),
        remark="all parts are 148,046 numbers; it asks for gymnasium 1.2.0: `pip install --no-deps nle`",
    ),
    Try(
        "sb3_contrib.common.envs:InvalidActionEnvDiscrete",
        "sb3-contrib",
        "vector; choice of 80",
        remark="mask by `action_masks()`",
    ),
    Try(
        "own_environments:ConnectFour", "pettingzoo", "Dict with a mask; choice of 7", remark="PettingZoo's, by a class of ours"
    ),
    Try(
        "own_environments:Throw",
        "hadamem",
        "Dict; Tuple of a choice and a Dict of Boxes",
        remark="hybrid actions, a class of ours",
    ),
    Try("SyncVectorEnv of CartPole-v1", "gymnasium", "vector; choice of 2", program=VECTOR.format("sync")),
    Try("AsyncVectorEnv of CartPole-v1", "gymnasium", "vector; choice of 2", program=VECTOR.format("async")),
    Try(
        "EnvPool's CartPole-v1",
        "envpool",
        "vector; choice of 2",
        program="import envpool\nvector = envpool.make_gymnasium('CartPole-v1', num_envs=8)",
    ),
    Try(
        "EnvPool's Pong-v5",
        "envpool",
        "4 pictures 84 x 84; choice of 6",
        program="import envpool\nvector = envpool.make_gymnasium('Pong-v5', num_envs=8)",
        part=4,
    ),
)

PROGRAM = """
import hadamem

if __name__ == "__main__":
{make}
    agent = hadamem.PPO("gru", vector, threads=1)
    agent.learn({steps}, out={out!r})
    print(agent.evaluate(3).mean)
    hadamem.load({out!r}, env=vector)
    vector.close()
"""


@dataclass
class Options:
    """Try environments and print the table."""

    only: tuple[str, ...] = ()
    """names of environments, or patterns; none: all"""
    steps: int = 4096
    """environment steps of each training; slow environments have fewer"""
    data: pathlib.Path = WORK / "rows.json"
    """file of the rows of the table; rows of environments that are not tried now stay in it"""
    page: pathlib.Path | None = None
    """Markdown file into which the table is written"""
    work: pathlib.Path = WORK
    """folder of the runs and of the output of the commands"""


@dataclass
class Outcome:
    """The result of one environment. `watched` is what the page shows: frames, observations as pictures, or numbers."""

    trained: bool = False
    evaluated: bool = False
    watched: str | None = None
    speed: int | None = None
    error: str = ""


def main(options: Options) -> None:
    known: dict[str, dict[str, str]] = json.loads(options.data.read_text()) if options.data.exists() else {}
    for one in TRIES:
        if options.only and not any(fnmatch.fnmatch(one.env, pattern) for pattern in options.only):
            continue
        try:
            package = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in one.package.split(", "))
        except importlib.metadata.PackageNotFoundError as error:
            print(f"{one.env}: skipped, {error.name} is not installed", flush=True)
            continue
        steps = options.steps // one.part
        outcomes = [_try(one, id, steps, options.work) for id in _family(one.env)]
        known[one.env] = _row(one, package, steps, outcomes)
        print(f"| {' | '.join(known[one.env].values())} |", flush=True)
        write_whole(options.data, json.dumps(known, indent=2) + "\n")
    rows = [known[one.env] for one in TRIES if one.env in known]
    if options.page is not None:
        _write(options.page, rows)
    print(f"\n{markdown_table(rows)}" if rows else "nothing was tried")


def _family(env: str) -> list[str]:
    if "*" not in env:
        return [env]
    return [task.name for task in list_tasks() if fnmatch.fnmatch(task.name, env)]


def _try(one: Try, id: str, steps: int, work: pathlib.Path) -> Outcome:
    folder = work / re.sub(r"\W+", "-", id)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run, outcome = folder / "run", Outcome()
    if one.program:
        program = folder / "program.py"
        program.write_text(PROGRAM.format(make=textwrap.indent(one.program, "    "), steps=steps, out=str(run)))
        said = _call(one, folder, "program", str(program))
        outcome.trained, outcome.evaluated = (run / "result.json").exists(), said is not None
    else:
        words = ("--env", id, *one.options, "--memory", "gru", "--steps", str(steps), "--threads", "1", "--out", str(run))
        said = _hadamem(one, folder, "train", *words)
        outcome.trained = said is not None
        if outcome.trained:
            outcome.evaluated = _hadamem(one, folder, "evaluate", str(run), "--episodes", "3") is not None
            if _hadamem(one, folder, "watch", str(run)) is not None:
                outcome.watched = _shown((run / "watch.html").read_text())
    if speeds := re.findall(r"([\d,]+) steps/s", said or ""):
        outcome.speed = int(speeds[-1].replace(",", ""))
    failed = next((name for name in ("program", "train", "evaluate", "watch") if (folder / f"{name}.failed").exists()), None)
    if failed:
        outcome.error = f"{failed}: {(folder / f'{failed}.failed').read_text()}"
        print(f"{id}: {outcome.error}", file=sys.stderr, flush=True)
    return outcome


def _hadamem(one: Try, folder: pathlib.Path, *words: str) -> str | None:
    """The output of a command of hadamem, see `_call`. For the ids of a family, the command runs in this process."""
    if "*" not in one.env:
        return _call(one, folder, words[0], "-m", "hadamem", *words)
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            run_command(words)
    except Exception as error:
        (folder / f"{words[0]}.failed").write_text(f"{type(error).__name__}: {error}")
        return None
    return said.getvalue()


def _call(one: Try, folder: pathlib.Path, name: str, *words: str) -> str | None:
    """The output of Python with some arguments; None if it failed, and then the reason is in the file NAME.failed."""
    variables = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    variables |= dict(one.variables)
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, *words]
    try:
        done = subprocess.run(command, env=variables, cwd=folder, text=True, capture_output=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        (folder / f"{name}.failed").write_text(f"not finished after {LONGEST} seconds")
        return None
    said = done.stdout + done.stderr
    (folder / f"{name}.txt").write_text(said)
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if re.match(r"error:|[\w.]*Error\b", line)]
        (folder / f"{name}.failed").write_text([f"exit status {done.returncode}", *reasons][-1][:200])
        return None
    return said


def _shown(page: str) -> str:
    if '"caption": "frame"' in page:
        return "frames"
    return "numbers" if '"pictures": []' in page else "observations"


def _row(one: Try, package: str, steps: int, outcomes: list[Outcome]) -> dict[str, str]:
    shown = sorted({outcome.watched for outcome in outcomes if outcome.watched})
    speeds = [outcome.speed for outcome in outcomes if outcome.speed is not None]
    errors = [outcome.error for outcome in outcomes if outcome.error]
    some = one.env if len(outcomes) == 1 else f"{one.env}, all {len(outcomes)} ids"
    options = f" `{' '.join(one.options)}`" if one.options else ""
    variables = "".join(f" `{name}={value}`" for name, value in one.variables)
    program = one.program != ""
    return {
        "environment": (some if program else f"`{one.env}`{some.removeprefix(one.env)}") + options,
        "package": package,
        "observation; action": one.spaces,
        "train": _share([outcome.trained for outcome in outcomes]),
        "evaluate": _share([outcome.evaluated for outcome in outcomes]),
        "watch": "-" if program else " or ".join(shown) or "no",
        "steps": f"{steps:,}",
        "steps/s": "" if not speeds else f"{min(speeds):,}" + (f" to {max(speeds):,}" if len(speeds) > 1 else ""),
        "remark": "; ".join(filter(None, [one.remark, variables.strip(), *dict.fromkeys(errors)])),
    }


def _share(good: list[bool]) -> str:
    if all(good):
        return "yes"
    return f"{sum(good)} of {len(good)}" if any(good) else "no"


def _write(page: pathlib.Path, rows: list[dict[str, str]]) -> None:
    head, begin, rest = page.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} needs the lines {BEGIN} and {END}, between which the table is written")
    page.write_text(f"{head}{begin}\n{markdown_table(rows)}\n{end}{tail}")


if __name__ == "__main__":
    main(tyro.cli(Options))

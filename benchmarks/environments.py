"""Environments that people have: each is trained on for a moment, evaluated and watched, without a screen.

Prints the table of docs/environments.md. What is not installed is left out, and named.

    python benchmarks/environments.py --out docs/environments-table.md
"""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import tyro

from hadamem.cli.console import say
from hadamem.envs import make_vector
from hadamem.text import markdown_table


@dataclass(frozen=True)
class Case:
    """An environment to try.

    Attributes:
        env: its id, as on the command line.
        package: the distribution that has it.
        words: further options of `hadamem train`.
        about: what it is an example of.
    """

    env: str
    package: str
    about: str
    words: tuple[str, ...] = ()


ATARI = ("--gray", "--resize", "84", "84")
CASES = (
    Case("CartPole-v1", "gymnasium", "vector, discrete actions"),
    Case("Pendulum-v1", "gymnasium", "vector, continuous actions"),
    Case("LunarLander-v3", "box2d", "Box2D"),
    Case("CarRacing-v3", "box2d", "picture 96 x 96, continuous actions", ("--frame-skip", "4", *ATARI)),
    Case("Taxi-v4", "gymnasium", "masks of legal actions in the info"),
    Case("FrozenLake-v1", "gymnasium", "discrete observations"),
    Case("MiniGrid-MemoryS7-v0", "minigrid", "Dict with a grid of codes, a direction and a text"),
    Case("BabyAI-GoToRedBall-v0", "minigrid", "a mission in words, left out", ("--observe", "image", "direction")),
    Case("ALE/Pong-v5", "ale-py", "Atari", ATARI),
    Case("ale_py:ALE/MsPacman-v5", "ale-py", "Atari, its memory instead of its screen", ("--env-options", "obs_type=ram")),
    Case("HalfCheetah-v5", "mujoco", "MuJoCo"),
    Case("Humanoid-v5", "mujoco", "348 numbers, 17 actions"),
    Case("gymnasium_robotics:FetchReach-v4", "gymnasium-robotics", "Dict with goals"),
    Case("gymnasium_robotics:PointMaze_UMaze-v3", "gymnasium-robotics", "Dict with goals, MuJoCo"),
    Case("highway_env:highway-v0", "highway-env", "matrix of vehicles"),
    Case("highway_env:parking-v0", "highway-env", "Dict with goals"),
    Case("flappy_bird_gymnasium:FlappyBird-v0", "flappy-bird-gymnasium", "180 rays of a lidar"),
    Case("miniworld:MiniWorld-Hallway-v0", "miniworld", "3-D world, picture 60 x 80; needs OpenGL"),
    Case("vizdoom.gymnasium_wrapper:VizdoomBasic-v1", "vizdoom", "Doom: Dict with a picture", ("--observe", "screen")),
    Case("peers_worlds:Crafter", "crafter", "picture world of the old Gym API, in a class of one's own"),
    Case("peers_worlds:Hybrid", "hadamem", "Tuple action: discrete beside continuous, own class"),
    Case("peers_worlds:Connect", "pettingzoo", "PettingZoo's Connect Four against random play: masks in the observation"),
)
_WORLDS = '''
import gymnasium
import numpy as np
from gymnasium import spaces


class Crafter(gymnasium.Env):
    """crafter.Env has the old API: four values from step, one from reset, numpy's old random state."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode=None):
        import crafter

        self.env, self.render_mode = crafter.Env(), render_mode
        self.observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
        self.action_space = spaces.Discrete(17)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.picture = self.env.reset()
        return self.picture, {}

    def step(self, action):
        self.picture, reward, done, info = self.env.step(int(action))
        return self.picture, float(reward), done, False, {}

    def render(self):
        return self.picture


class Hybrid(gymnasium.Env):
    """Choose one of three levers and pull it as far as it says, which was seen at first."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (1,))])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.lever, self.force, self.steps = int(self.np_random.integers(3)), self.np_random.uniform(-1, 1), 0
        return np.array([self.lever - 1, self.force], np.float32), {}

    def step(self, action):
        lever, force = action
        self.steps += 1
        reward = float(lever == self.lever) - abs(float(force[0]) - self.force)
        return np.zeros(2, np.float32), reward, self.steps == 8, False, {}


class Connect(gymnasium.Env):
    """PettingZoo's Connect Four against a player of random legal moves."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode=None):
        from pettingzoo.classic import connect_four_v3

        self.env, self.render_mode = connect_four_v3.env(render_mode=render_mode), render_mode
        self.action_space = spaces.Discrete(7)
        self.observation_space = spaces.Dict(
            observation=spaces.Box(0, 1, (6, 7, 2), np.int8), action_mask=spaces.Box(0, 1, (7,), np.int8)
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.env.reset(seed=seed)
        return self.env.observe("player_0"), {}

    def step(self, action):
        self.env.step(int(action))
        if not any(self.env.terminations.values()):
            legal = np.flatnonzero(self.env.observe("player_1")["action_mask"])
            self.env.step(int(self.np_random.choice(legal)))
        over = any(self.env.terminations.values())
        return self.env.observe("player_0"), float(self.env.rewards["player_0"]), over, False, {}

    def render(self):
        return self.env.render()
'''


@dataclass(kw_only=True)
class Environments:
    """Try environments that people have."""

    only: tuple[str, ...] = ()
    """those whose id holds one of these words; none: all"""
    steps: int = 2048
    """environment steps of each training"""
    popgym: bool = True
    """every id of POPGym, too, with 256 steps each"""
    seconds: float = 240.0
    """longest time of a command"""
    out: pathlib.Path | None = None
    """file for the table"""


def main() -> None:
    """Try them, one after the other."""
    given = tyro.cli(Environments)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "peers_worlds.py").write_text(_WORLDS)
        sys.path.insert(0, name)
        for case in CASES:
            if given.only and not any(word in case.env for word in given.only):
                continue
            if (version := _version(case.package)) is None:
                say(f"{case.env}: {case.package} is not installed")
                continue
            row = {"environment": case.env, "package": f"{case.package} {version}", "what": case.about}
            row |= _try(case, folder, given) | {"options": " ".join(case.words)}
            rows.append(row)
            say(str(row))
        if given.popgym and not given.only:
            rows.append(_popgym(folder, given))
    table = markdown_table(rows)
    print(table)
    if given.out is not None:
        given.out.write_text(table + "\n")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _try(case: Case, folder: pathlib.Path, given: Environments) -> dict[str, str]:
    run = folder / re.sub(r"\W", "-", case.env)
    small = [
        "--num-envs",
        "8",
        "--num-steps",
        "32",
        "--minibatches",
        "2",
        "--epochs",
        "2",
        "--memory-size",
        "32",
        "--threads",
        "1",
    ]
    train = ["train", "--env", case.env, *case.words, "--memory", "gru", "--steps", str(given.steps), *small, "--out", str(run)]
    trained = _hadamem(train, folder, given.seconds)
    speed = re.findall(r"([\d,]+) steps/s", trained.stdout)
    if trained.returncode:
        return {"train": _problem(trained), "evaluate": "", "watch": "", "steps/s": ""}
    played = _hadamem(["evaluate", str(run), "--episodes", "2", "--max-steps", "200"], folder, given.seconds)
    watched = _hadamem(["watch", str(run), "--steps", "20"], folder, given.seconds)
    frames = "yes" if "data:image" in _read(run / "watch.html") else "yes, without frames"
    return {
        "train": "yes",
        "evaluate": _problem(played) or "yes",
        "watch": _problem(watched) or frames,
        "steps/s": speed[-1] if speed else "",
    }


def _popgym(folder: pathlib.Path, given: Environments) -> dict[str, str]:
    ids = list(_popgym_ids())
    failed = []
    for id in ids:
        case = Case(id, "popgym", "")
        made = make_vector(id, 2, seed=0)
        made.reset()
        made.close()
        small = Environments(steps=256, seconds=given.seconds)
        row = _try(case, folder, small)
        if not (row["train"] == row["evaluate"] == "yes" and row["watch"].startswith("yes")):
            failed.append(f"{id}: {row}")
            say(failed[-1])
    good = f"{len(ids) - len(failed)} of {len(ids)}"
    version = f"popgym {_version('popgym')}"
    row = {"environment": "every id of POPGym", "package": version, "what": "cards, memory games, mazes, control"}
    return row | {"train": good, "evaluate": good, "watch": good, "steps/s": "", "options": ""}


def _popgym_ids() -> Iterator[str]:
    import gymnasium
    import popgym  # noqa: F401  registers its ids

    yield from sorted(id for id in gymnasium.registry if id.startswith("popgym-"))


def _hadamem(words: list[str], folder: pathlib.Path, seconds: float) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MUJOCO_GL")}
    environment |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "hadamem", *words]
    try:
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"error: no end after {seconds:.0f} s")


def _problem(done: subprocess.CompletedProcess[str]) -> str:
    if not done.returncode:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")] or done.stderr.splitlines()[-1:]
    return lines[-1][:200] if lines else f"ended with {done.returncode}"


def _read(file: pathlib.Path) -> str:
    return file.read_text() if file.exists() else ""


if __name__ == "__main__":
    main()

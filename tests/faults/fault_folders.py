"""Run folders that are damaged: every command on them succeeds, or says in a line which file is at fault."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import pathlib
import random
import shutil
import sys
import tempfile

from hadamem.agents import PPOConfig, TrainConfig, train
from hadamem.agents.progress import Progress
from hadamem.cli.main import main


class Silent(Progress):
    def show(self) -> None:
        pass


@functools.cache
def _whole() -> pathlib.Path:
    """The folder of a small run, made once a process."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="fault-run-")) / "run"
    ppo = PPOConfig(num_envs=2, num_steps=8, epochs=1, minibatches=1)
    train(TrainConfig(env="CartPole-v1", memory="gru", memory_size=4, steps=64, threads=1, ppo=ppo), path, progress=Silent)
    return path


def run(seed: int, folder: pathlib.Path) -> str | None:
    """One to three damages to the files of a folder, then one command."""
    draw = random.Random(seed)
    path = folder / "run"
    shutil.copytree(_whole(), path)
    damages = [_damage(draw, path) for _ in range(draw.randint(1, 3))]
    out = str(folder / "out.png")
    words = draw.choice(
        [
            ["evaluate", str(path), "--episodes", "2"],
            ["watch", str(path), "--steps", "5"],
            ["train", "--resume", str(path), "--steps", "96"],
            ["runs", str(folder)],
            ["compare", str(folder), "--out", str(folder / "compared")],
            ["plot", str(path), "--out", out],
        ]
    )
    said, code = _call(words)
    what = f"{', '.join(damages)}; hadamem {' '.join(words)}"
    if "Traceback" in said:
        return f"{what}: {said}"
    if code and not any(line.startswith("error: ") for line in said.splitlines()):
        return f"{what}: ended with {code} and no error: {said}"
    return None


def _call(words: list[str]) -> tuple[str, int]:
    """A command in this process: what it said on stderr, and its exit status."""
    before, said = sys.argv, io.StringIO()
    sys.argv = ["hadamem", *words]
    code = 0
    try:
        from hadamem.cli import console

        console.console.file = said
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        sys.argv = before
    return said.getvalue(), code


def _damage(draw: random.Random, path: pathlib.Path) -> str:
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        return "nothing left"
    file = draw.choice(files)
    content = file.read_bytes()
    how = draw.choice(["cut", "flip", "remove", "folder", "garbage", "empty", "value", "other"])
    match how:
        case "cut":
            file.write_bytes(content[: draw.randrange(len(content) + 1)])
        case "flip" if content:
            changed = bytearray(content)
            for _ in range(draw.randint(1, 8)):
                changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
            file.write_bytes(bytes(changed))
        case "remove":
            file.unlink()
        case "folder":
            file.unlink()
            file.mkdir()
        case "garbage":
            file.write_bytes(draw.randbytes(draw.randint(1, 500)))
        case "value" if file.suffix == ".json":
            try:
                saved = json.loads(content)
                saved[draw.choice(list(saved))] = draw.choice([None, -1, "x", [], {}, 1e99, True])
            except (ValueError, TypeError, IndexError):
                saved = []
            file.write_text(json.dumps(saved))
        case "other":
            shutil.copy(draw.choice(files), path / "swapped")
            (path / "swapped").replace(file)
        case _:
            file.write_bytes(b"")
    return f"{how} {file.name}"

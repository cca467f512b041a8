"""The command line, as a user meets it: through a process, bad input included."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from unittest import mock

import gymnasium
import numpy as np
import pytest

from hadamem.cli.main import COMMANDS, main
from hadamem.recipes.presets import PRESETS

SMALL = ("--steps", "640", "--num-envs", "4", "--num-steps", "40", "--minibatches", "2", "--epochs", "1", "--threads", "1")


class Pixels(gymnasium.Env):
    """Found as `test_cli:Pixels-v0`. Name the brighter half of the first picture, at each of eight steps."""

    observation_space = gymnasium.spaces.Box(0, 255, (12, 12, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.side, self.steps = int(self.np_random.integers(2)), 0
        picture = np.zeros((12, 12, 3), np.uint8)
        picture[:, 6 * self.side : 6 * self.side + 6] = 255
        return picture, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        return np.zeros((12, 12, 3), np.uint8), float(action == self.side), self.steps == 8, False, {}


gymnasium.register("Pixels-v0", Pixels)


def hadamem(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, which has imported everything: a new one would take seconds to do so."""
    words, out, err = ["hadamem", *map(str, arguments)], io.StringIO(), io.StringIO()
    notices, path, returned = logging.StreamHandler(err), list(sys.path), 0
    logging.getLogger("hadamem").addHandler(notices)
    try:
        with (
            mock.patch.object(sys, "argv", words),
            mock.patch.dict(os.environ, {"COLUMNS": "160"}),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as end:
        returned = int(end.code or 0)
    finally:
        logging.getLogger("hadamem").removeHandler(notices)
        sys.path[:] = path
    assert returned == code, out.getvalue() + err.getvalue()
    assert "Traceback" not in err.getvalue()
    return subprocess.CompletedProcess(words, returned, out.getvalue(), err.getvalue())


def test_train_evaluate_resume(tmp_path: pathlib.Path) -> None:
    run = tmp_path / "run"
    done = hadamem("train", "--memory", "shm", "--memory-options", "theta=fixed", "--out", run, *SMALL)
    assert done.stdout.splitlines()[-1] == str(run)
    written = json.loads((run / "config.json").read_text())["config"]
    preset = [option for option in PRESETS["fast"]["memory"]["shm"]["options"] if not option.startswith("theta=")]
    assert written["memory_options"] == [*preset, "theta=fixed"]  # the preset's, then ours
    hadamem("train", "--resume", run, "--steps", 960)
    assert json.loads((run / "result.json").read_text())["steps"] == 960
    done = hadamem("evaluate", run, "--episodes", 12, "--json", tmp_path / "result.json")
    assert "random" in done.stdout
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["episodes"] == 12
    assert result["ci95"] > 0
    assert {"mean", "std", "ci95", "episodes"} <= result["random"].keys()


def test_an_agent_that_is_no_better_than_random_play_is_told_so(tmp_path: pathlib.Path) -> None:
    run = tmp_path / "run"
    hadamem("train", "--env", "MountainCar-v0", "--memory", "mlp", "--out", run, *SMALL)
    done = hadamem("evaluate", run, "--episodes", 2)
    assert done.stdout.count("-200.000 to -200.000") == 2
    assert 'No better than random play in these episodes. "When it does not learn" in docs/guide.md' in done.stderr


def test_options_of_the_environment_and_every_task_of_a_split(tmp_path: pathlib.Path) -> None:
    run, result = tmp_path / "run", tmp_path / "result.json"
    options = ("variant=original", "horizon=12", "radius=0.5")
    hadamem("train", "--env", "hadamem/PointRobot-v0", "--memory", "gru", "--env-options", *options, "--out", run, *SMALL)
    assert json.loads((run / "config.json").read_text())["config"]["env_options"] == list(options)
    done = hadamem("evaluate", run, "--env-options", "split=eval", "horizon=8", "--json", result)
    assert "split=eval" in done.stdout
    told = json.loads(result.read_text())
    assert (told["episodes"], told["mean_length"]) == (20, 16)  # each of the tasks once, two inner episodes
    assert sum(told["inner_means"]) == pytest.approx(told["mean"])
    assert 0 <= told["success_rate"] <= 1


def test_the_default_folder_is_named_after_the_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = hadamem("train", "--memory", "mlp", "--seed", 3, *SMALL)
    folder = pathlib.Path(done.stdout.splitlines()[-1])
    assert folder.parts[:2] == ("runs", "popgym-RepeatPreviousEasy-v0")
    assert folder.name.startswith("mlp-ppo-s3-")
    assert (tmp_path / folder / "result.json").exists()


@pytest.mark.parametrize("env", ["popgym-CountRecallEasy-v0", "CartPole-v1", "Pendulum-v1", "test_cli:Pixels-v0"])
def test_kinds_of_environments(env: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parent), prepend=os.pathsep)
    hadamem("train", "--env", env, "--out", tmp_path / "run", *SMALL)


@pytest.mark.parametrize("env", ["Pendulum-v1", "CartPole-v1"])
def test_sac_from_training_to_evaluation(env: str, tmp_path: pathlib.Path) -> None:
    sac = ("--agent", "sac", "--num-envs", 2, "--num-steps", 50, "--warmup-steps", 450, "--hidden-sizes", 16, "--threads", 1)
    run = tmp_path / "run"
    hadamem("train", "--env", env, "--memory", "gru", "--steps", 600, "--out", run, *sac)
    hadamem("evaluate", run, "--episodes", 3, "--json", tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["episodes"] == 3


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a POSIX signal here")
def test_ctrl_c_leaves_a_checkpoint(tmp_path: pathlib.Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "hadamem", "train", "--out", str(run), *SMALL, "--steps", "100000000"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size):
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert out.splitlines()[-1] == str(run)
    assert f"--resume {run}" in err
    assert (run / "checkpoint.pt").exists()
    assert not (run / "result.json").exists()


def test_extended_and_stopped_again(tmp_path: pathlib.Path) -> None:
    """A complete run that is extended is no longer complete, and remembers how far it was to go."""
    run = tmp_path / "run"
    hadamem("train", "--memory", "mlp", "--out", run, *SMALL)
    child = subprocess.Popen([sys.executable, "-m", "hadamem", "train", "--resume", str(run), "--steps", "100000000"])
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and len((run / "metrics.jsonl").read_text().splitlines()) < 7:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) == 0
    assert not (run / "result.json").exists()
    assert json.loads((run / "config.json").read_text())["config"]["steps"] == 100_000_000


def test_showcase(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "showcase"
    done = hadamem("showcase", "--out", out, "--steps", 1000, "--episodes", 20)
    rows = json.loads((out / "results.json").read_text())
    assert [row["memory"] for row in rows if row["policy"] == "trained"] == ["shm", "gru", "mlp"]
    assert [row["memory"] for row in rows if row["policy"] == "random"] == ["none"]
    assert all({"policy", "memory", "mean", "ci95", "episodes", "steps"} == row.keys() for row in rows)
    assert (out / "curves.png").stat().st_size > 10_000
    assert str(out / "curves.png") in done.stdout
    assert "other settings" in hadamem("showcase", "--out", out, "--steps", 1000, "--seed", 1, code=2).stderr


def test_plot(tmp_path: pathlib.Path) -> None:
    run, picture = tmp_path / "run", tmp_path / "pictures" / "curves.png"
    hadamem("train", "--memory", "mlp", "--out", run, *SMALL)
    assert hadamem("plot", run, run, "--out", picture, "--against", "minutes").stdout.strip() == str(picture)
    assert picture.stat().st_size > 10_000
    assert "has no metric 'succes'; it has: " in hadamem("plot", run, "--metric", "succes", code=2).stderr
    assert "1 label for 2 runs" in hadamem("plot", run, run, "--labels", "one", code=2).stderr
    assert "which runs?" in hadamem("plot", code=2).stderr


def test_an_unfinished_run_is_played_with_a_notice_and_compared_without_a_scale(tmp_path: pathlib.Path) -> None:
    run = tmp_path / "run"
    hadamem("train", "--env", "CartPole-v1", "--memory", "mlp", "--out", run, *SMALL)
    assert "not finished" not in hadamem("evaluate", run, "--episodes", 2).stderr
    done = hadamem("compare", run, "--reps", 100, "--out", tmp_path / "compare")
    assert "normalised mean" not in done.stdout
    assert "Not normalised, since no bounds are known and there is no other run: CartPole-v1." in done.stderr
    (run / "result.json").unlink()
    assert "not finished: it has made 640 of its 640 steps" in hadamem("evaluate", run, "--episodes", 2).stderr


OWN = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

class Own(CartPoleEnv):
    def __init__(self, seed=0, id=0, inputs=0, batched=0, num_envs=0, disable_env_checker=0, render_mode=None):
        super().__init__(render_mode=render_mode)
        if {seed, id, inputs, batched, num_envs, disable_env_checker} != {3}:
            raise ValueError("an option did not come through")

gymnasium.register("Own-v0", Own)
"""


def test_modules_and_options_may_have_any_name(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the current folder does not take the place of an installed package; an environment's own options may be
    called as parameters of ours and of Gymnasium's are."""
    (tmp_path / "popgym.py").write_text("raise SystemExit('run from the current folder')")
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    hadamem("train", "--memory", "mlp", *SMALL)
    names = ("seed", "id", "inputs", "batched", "num_envs", "disable_env_checker")
    options = ("--env-options", *(f"{name}=3" for name in names))
    hadamem("train", "--env", "own:Own-v0", *options, "--memory", "mlp", *SMALL)


def test_debug_shows_the_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hadamem", "evaluate", "nowhere", "--debug"], capture_output=True, text=True, timeout=200
    )
    assert "Traceback" in done.stderr
    assert "--debug" in hadamem("--help").stdout


def test_bench_rows() -> None:
    from hadamem.bench import ops, train

    for backend in ("released", "cpu"):
        row = ops.measure(backend, 1, 3, 4, rounds=1)
        assert min(row.forward_us, row.forward_backward_us) > 0
        assert (row.forward_of_floor is None) == (backend == "released")
    assert ops.measure_memory(1, 1000, 32).process_mb > 50
    assert train.measure_ppo("shm", 8, iterations=1).per_second > 0
    assert train.measure_sac("shm", 8, updates=1).per_second > 0


def test_bench_returns(tmp_path: pathlib.Path) -> None:
    command = ("bench", "returns", "--memories", "mlp", "mingru", "--steps", 300, "--jobs", 2, "--out", tmp_path / "runs")
    done = hadamem(*command, "--json", tmp_path / "returns.json")
    rows = json.loads((tmp_path / "returns.json").read_text())
    assert [row["memory"] for row in rows] == ["mlp", "mingru"]
    assert all(row["episodes"] == 200 and row["steps"] >= 300 and -1 <= row["mean"] <= 1 for row in rows)
    assert "mingru" in done.stdout
    written = (tmp_path / "runs" / "mlp" / "checkpoint.pt").stat().st_mtime_ns
    hadamem(*command)
    assert (tmp_path / "runs" / "mlp" / "checkpoint.pt").stat().st_mtime_ns == written  # complete: not trained again


def test_lists(tmp_path: pathlib.Path) -> None:
    hadamem("list", "memories", "--json", tmp_path / "memories.json")
    rows = json.loads((tmp_path / "memories.json").read_text())
    assert {"shm", "gru", "lstm", "mlp"} <= {row["name"] for row in rows}
    explained = hadamem("list", "memories", "gru", "mamba").stdout
    assert "z_t = sigmoid(" in explained
    assert "│ state_size=16 │ N, number of columns of M." in explained
    explained = hadamem("list", "tasks", "hadamem/Wind-v0", "CartPole-v1").stdout
    assert "│ num_tasks=" in explained
    assert "observation: Box(" in explained
    hadamem("list", "tasks", "--json", tmp_path / "tasks.json")
    rows = json.loads((tmp_path / "tasks.json").read_text())
    assert {"popgym-RepeatPreviousEasy-v0", "popgym-CountRecallEasy-v0", "CartPole-v1"} <= {row["name"] for row in rows}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["'trian'", "train"]),
        (["train", "--memory", "smh"], ["'smh'", "shm"]),
        (["train", "--env", "popgym-RepeatPreviousEsy-v0"], ["popgym-RepeatPreviousEsy-v0", "popgym-RepeatPreviousEasy-v0"]),
        (["train", "--env", "no_such_module:Task-v0"], ["no_such_module"]),
        (["train", "--preset", "fats"], ["'fats'", "fast"]),
        (["train", "--agent", "ppo", "--preset", "meta-paper"], ["'meta-paper' is for the agent sac", "popgym-paper"]),
        (["train", "--agent", "sca"], ["sca", "sac"]),
        (["train", "--agent", "sac", "--env", "popgym-BattleshipEasy-v0"], ["MultiDiscrete", "PPO"]),
        (["train", "--agent", "sac", "--env", "CartPole-v1", "--burn-in", "3"], ["burn_in is 3", "sequence_length"]),
        (["train", "--memory-options", "theta=rnd"], ["theta=rnd", "random, centred, stable, fixed, learned"]),
        (["train", "--memory-options", "thta=fixed"], ["thta=fixed", "theta"]),
        (["train", "--env", "hadamem/Wind-v0", "--env-options", "raduis=1"], ["raduis=1", "radius"]),
        (["train", "--env", "CartPole-v1", "--env-options", "length=1"], ["CartPole-v1", "'length'"]),
        (["train", "--minibatches", "7"], ["minibatches is 7", "128"]),
        (["train", "--steps", "0"], ["steps is 0"]),
        (["train", "--inputs", "pixels"], ["pixels", "obs"]),
        (["train", "--device", "tpu9"], ["tpu9"]),
        (["train", "--threads", "0"], ["threads is 0"]),
        (["train", "--embed-size", "0"], ["embed_size is 0"]),
        (["train", "--max-grad-norm", "-1"], ["max_grad_norm is -1"]),
        (["bench", "recall", "--memories", "smh"], ["'smh'", "shm"]),
        (["bench", "returns", "--jobs", "0"], ["jobs is 0"]),
        (["evaluate", "nowhere", "--episodes", "0"], ["episodes is 0"]),
        (["[/x]"], ["'[/x]'"]),
        (["train", "--resume", "nowhere"], ["nowhere", "no run folder"]),
        (["evaluate", "nowhere"], ["nowhere", "no run folder"]),
        (["evaluate"], ["RUN"]),
        (["train", "--stepz", "3"], ["--stepz", "--steps"]),
    ],
)
def test_bad_input_is_answered(
    arguments: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hadamem", *arguments])
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as leaving:
        main()
    done = capsys.readouterr()
    assert leaving.value.code == 2
    assert "Traceback" not in done.err
    for word in words:
        assert word.lower() in (done.out + done.err).lower()


def test_the_list_of_commands_is_the_help_without_a_command() -> None:
    text = hadamem("--help").stdout
    assert all(re.search(rf"^  {name} +\w", text, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_shows_its_options_and_their_defaults(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        COMMANDS[name](["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: hadamem {name} ")
    options = re.findall(r"^[│ ] --[\w-]+", text, re.MULTILINE)
    assert options
    assert len(re.findall(r"\(default:\s", text)) + text.count("(required)") >= len(options)


@pytest.mark.skipif(os.name != "posix", reason="a closed pipe is a signal or an error of POSIX here")
@pytest.mark.parametrize("arguments", ["--help", "train --help", "evaluate --help", "list tasks", "--version"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_ends_the_command_quietly(
    arguments: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "hadamem", *arguments.split()]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=200)
    os.close(write)
    assert done.stderr == ""

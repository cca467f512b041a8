"""Run folders: complete runs, kills, resumes, evaluation."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from hadamem.agents.config import TrainConfig, seed_for
from hadamem.agents.evaluation import Evaluation, evaluate
from hadamem.agents.making import make_environment
from hadamem.agents.ppo import PPO, PPOConfig
from hadamem.agents.progress import Progress
from hadamem.agents.sac import SACConfig
from hadamem.agents.training import evaluate_task, load_policy, train
from hadamem.envs import make_vector
from hadamem.run import Run, RunError, read_checkpoint, read_config, read_metrics
from hadamem.watch.recording import record


def config(**changes: object) -> TrainConfig:
    ppo = PPOConfig(num_envs=4, num_steps=40, epochs=1, minibatches=2)
    settings = {"memory_size": 8, "steps": 160 * 12, "threads": 1, "checkpoint_every": 0.0, "ppo": ppo}
    return TrainConfig(**{**settings, **changes})


def test_a_run_is_a_folder(tmp_path: pathlib.Path) -> None:
    assert train(config(), tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoint.pt", "result.json"} < names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [160 * n for n in range(1, 13)]
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"hadamem", "torch", "numpy", "gymnasium", "popgym", "commit"} <= written["versions"].keys()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 160 * 12


def test_the_same_seed_gives_the_same_run(tmp_path: pathlib.Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(config(seed=seed, steps=160 * 3), tmp_path / name)
    a, b, c = (read_checkpoint(tmp_path / name)["agent"]["policy"] for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


SCRIPT = """
import sys, pathlib, torch
sys.path.insert(0, {tests!r})
from test_training import config
from hadamem.agents.training import train
train(config(), pathlib.Path(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_and_resumed_equals_uninterrupted(tmp_path: pathlib.Path) -> None:
    """kill -9 in the middle; resumed, the metrics have no gap and no double line, and the weights are the same to the bit."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(config(), whole)
    script = SCRIPT.format(tests=str(pathlib.Path(__file__).parent))
    child = subprocess.Popen([sys.executable, "-c", script, str(killed)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while len(read_metrics(killed)) < 3 and time.monotonic() < deadline:
        assert child.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (killed / "result.json").exists()
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99')  # as if killed within a line
    assert train(config(), killed, resume=True)
    kept = ("step", "return", "policy_loss", "entropy")
    got, want = ([{k: line[k] for k in kept if k in line} for line in read_metrics(path)] for path in (killed, whole))
    assert got == want
    a, b = (read_checkpoint(path)["agent"]["policy"] for path in (killed, whole))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_resume_of_an_environment_that_cannot_be_saved(tmp_path: pathlib.Path) -> None:
    cartpole = config(env="CartPole-v1", steps=160 * 4)
    train(cartpole, tmp_path / "run")
    cartpole.steps = 160 * 6
    assert train(cartpole, tmp_path / "run", resume=True)
    steps = [line["step"] for line in read_metrics(tmp_path / "run")]
    assert steps == [160 * n for n in range(2, 7)]  # the first 160 are random play, for the statistics


def test_a_checkpoint_never_runs_code(tmp_path: pathlib.Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    (tmp_path / "run").mkdir()
    torch.save({"agent": Bomb()}, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        read_checkpoint(tmp_path / "run")
    assert not (tmp_path / "exploded").exists()


def test_a_used_folder_is_not_overwritten(tmp_path: pathlib.Path) -> None:
    train(config(steps=160), tmp_path / "run")
    with pytest.raises(ValueError, match=r"not empty.*--resume"):
        train(config(steps=160), tmp_path / "run")
    with pytest.raises(ValueError, match="no run folder"):
        read_config(tmp_path)
    with pytest.raises(ValueError, match=r"no checkpoint\.pt"):
        read_checkpoint(tmp_path)


def test_a_run_that_diverges_says_so(tmp_path: pathlib.Path) -> None:
    wild = config(steps=160 * 50)
    wild.ppo.learning_rate = 1e30
    with pytest.raises(FloatingPointError, match="lower learning rate"):
        train(wild, tmp_path / "run")


def test_killed_before_its_first_iteration(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PPO, "iterate", lambda self, on_step: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(config(), tmp_path / "run")
    monkeypatch.undo()
    assert train(config(), tmp_path / "run", resume=True)


def contents(path: pathlib.Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != ".lock"}


def test_a_resume_that_has_nothing_to_do_or_cannot_be_done_changes_nothing(tmp_path: pathlib.Path) -> None:
    train(config(steps=300), tmp_path / "run")  # makes 320, in whole iterations
    before = contents(tmp_path / "run")
    assert train(config(steps=300), tmp_path / "run", resume=True)
    for steps in (100, 310):
        with pytest.raises(ValueError, match=f"steps is {steps}; it must be more than the 320 "):
            train(config(steps=steps), tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="device is 'tpu9'"):
        train(config(steps=640, device="tpu9"), tmp_path / "run", resume=True)
    with pytest.raises(RunError, match=r"checkpoint\.pt: it does not fit the configuration \(RuntimeError: size mismatch"):
        train(config(steps=640, memory_size=5), tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


def test_a_result_that_was_not_written_is_that_of_the_last_metrics(tmp_path: pathlib.Path) -> None:
    train(config(env="CartPole-v1", steps=320), tmp_path / "run")
    result = (tmp_path / "run" / "result.json").read_text()
    (tmp_path / "run" / "result.json").unlink()
    assert train(config(env="CartPole-v1", steps=320), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "result.json").read_text() == result
    assert json.loads(result)["return"] > 0


def test_killed_before_its_first_checkpoint(tmp_path: pathlib.Path) -> None:
    for name, resume in (("again", False), ("resumed", True)):
        Run.create(tmp_path / name, config()).close()
        assert train(config(steps=160), tmp_path / name, resume)
    train(config(steps=160), tmp_path / "whole")
    policies = [read_checkpoint(tmp_path / name)["agent"]["policy"] for name in ("again", "resumed", "whole")]
    assert all(torch.equal(policy[key], policies[2][key]) for policy in policies for key in policy)
    (tmp_path / "whole" / "checkpoint.pt").unlink()
    with pytest.raises(RunError, match=r"metrics up to step 160, but no checkpoint\.pt"):
        train(config(steps=320), tmp_path / "whole", resume=True)


def test_progress_that_cannot_be_shown_ends_no_training(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def update(*_: object) -> None:
        raise BrokenPipeError("nobody reads")

    monkeypatch.setattr(Progress, "update", update)
    assert train(config(steps=320), tmp_path / "run")
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("progress is no longer shown, the training goes on: nobody reads") == 1


def test_a_lost_terminal_leaves_a_checkpoint(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    iterate = PPO.iterate

    def hang_up(self: PPO, on_step: Callable[[int], None]) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)  # from the shell and from the system
        return iterate(self, on_step)

    monkeypatch.setattr(PPO, "iterate", hang_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which tests may run, ignores it
    try:
        assert not train(config(checkpoint_every=1000.0), tmp_path / "run")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert read_checkpoint(tmp_path / "run")["agent"]["step"] == 160


def test_a_replay_has_its_room_from_the_first(tmp_path: pathlib.Path) -> None:
    sac = SACConfig(num_envs=2, num_steps=10, replay_capacity=100_000)
    train(TrainConfig("Pendulum-v1", agent="sac", memory="mlp", steps=20, sac=sac), tmp_path / "run")
    file = (tmp_path / "run" / "replay.bin").stat()
    assert file.st_blocks * 512 >= file.st_size > 1_000_000


def test_metrics_leave_out_nan(tmp_path: pathlib.Path) -> None:
    with Run.create(tmp_path / "run", config()) as run:
        run.log(1, {"return": float("nan"), "loss": 2})
    assert read_metrics(tmp_path / "run") == [{"step": 1, "loss": 2.0}]


def test_seeds_of_neighbours_do_not_overlap() -> None:
    """Environments count up from their seed: two runs must not share any."""
    seeds = [seed_for(seed, purpose) for seed in range(20) for purpose in ("environment", "evaluation", "network")]
    gaps = torch.tensor(sorted(seeds)).diff()
    assert gaps.min() > 1000


def test_evaluation_counts_whole_episodes() -> None:
    env = make_environment(config(), 7, 0)
    result = evaluate(env, None, 20)
    assert result.episodes == 20
    assert result.mean_length == 51
    assert -0.7 < result.mean < -0.3  # random play: one in four answers is right
    assert result.ci95 == pytest.approx(1.96 * result.std / 20**0.5)
    with pytest.raises(ValueError, match="episodes is 0"):
        evaluate(env, None, 0)


class Endless(gymnasium.Env):
    """Pays 1 a step and ends only where it was told to."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length: int | None = None) -> None:
        self.length = length

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return (
            np.zeros(2, np.float32),
            1.0,
            self.t == self.length,
            False,
            {"inner_returns": [0] * int(self.np_random.integers(3))},
        )


gymnasium.register("Endless-v0", Endless)
gymnasium.register("Limited-v0", Endless, max_episode_steps=30)


def test_better_is_by_more_than_chance() -> None:
    good, fair, poor = (Evaluation(mean, 1.0, 0.2, 96, 10.0) for mean in (1.0, 0.7, 0.5))
    assert good.better_than(poor)
    assert not good.better_than(fair)
    assert not poor.better_than(good)


def test_evaluation_cuts_what_does_not_end_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    progress: list[tuple[int, int]] = []
    result = evaluate(make_vector("Endless-v0", 2, 0), None, 5, progress=lambda *done: progress.append(done), max_steps=20)
    assert (result.episodes, result.mean, result.mean_length) == (5, 20, 20)
    assert progress == [(0, t) for t in range(1, 20)] + [(2, t) for t in range(20, 40)] + [(4, t) for t in range(40, 60)] + [
        (5, 60)
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "Endless-v0: 5 of 5 episodes did not end within 20 steps and were cut there; the environment has no limit of its own"
    ]


@pytest.mark.parametrize(("id", "options", "length"), [("Limited-v0", {}, 30), ("Endless-v0", {"length": 12}, 12)])
def test_evaluation_leaves_episodes_that_end_as_they_are(
    id: str, options: dict[str, Any], length: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert evaluate(make_vector(id, 2, 0, **options), None, 3, max_steps=20).mean_length == length
    assert not caplog.records


@pytest.mark.parametrize(
    ("id", "options", "told"),
    [("Endless-v0", (), True), ("Endless-v0", ("length=40",), False), ("Endless-v0", ("max_episode_steps=40",), False)],
)
def test_training_says_when_episodes_do_not_end(
    id: str, options: tuple[str, ...], told: bool, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    ppo = PPOConfig(num_envs=2, num_steps=50, minibatches=1, epochs=1)
    train(config(env=id, env_options=options, steps=2_400, memory="mlp", env_workers=0, ppo=ppo), tmp_path / "run")
    assert caplog.text.count("hardly an episode has ended in 1,000 steps of each environment") == told


def test_evaluation_that_is_interrupted_counts_what_was_played() -> None:
    def interrupt(episodes: int, steps: int) -> None:
        if steps == 50:
            raise KeyboardInterrupt

    assert evaluate(make_vector("Limited-v0", 2, 0), None, 9, progress=interrupt, partial=True).episodes == 2
    with pytest.raises(KeyboardInterrupt):
        evaluate(make_vector("Limited-v0", 2, 0), None, 9, progress=interrupt)


def test_evaluation_is_not_biased_to_short_episodes() -> None:
    """CartPole at random: the first 64 episodes to end would be shorter than 64 episodes of a fixed number each."""
    cartpole = config(env="CartPole-v1")
    fixed = evaluate(make_environment(cartpole, 64, 0), None, 64).mean_length
    one_by_one = evaluate(make_environment(cartpole, 1, 500), None, 300).mean_length
    assert abs(fixed - one_by_one) < 5


def test_evaluation_of_a_trained_policy_is_reproducible(tmp_path: pathlib.Path) -> None:
    train(config(steps=160), tmp_path / "run")
    results = []
    for _ in range(2):
        policy, loaded = load_policy(tmp_path / "run")
        torch.manual_seed(0)
        results.append(evaluate(make_environment(loaded, 5, 1), policy, 10))
    assert results[0] == results[1]


class Changing(gymnasium.Env):
    """Its spaces are options."""

    def __init__(self, n: int = 4, vector: bool = False, low: float = -2) -> None:
        self.observation_space = spaces.Box(0, 1, (n,)) if vector else spaces.Discrete(n)
        self.action_space = spaces.Box(low, 2, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 1.0, True, False, {}


gymnasium.register("Changing-v0", Changing)


@pytest.mark.parametrize(
    ("options", "differing"),
    [
        (("n=5",), r"obs: there vector of shape \(4,\), .*, here vector of shape \(5,\)"),
        (("vector=True",), r"obs: there vector of shape \(4,\), unit 1.0, here vector of shape \(4,\), unit None"),
        (("low=-1",), r"action space: there Box\(-2.0, 2.0, .*, here Box\(-1.0, 2.0"),
    ],
)
def test_a_policy_plays_only_in_the_spaces_it_was_trained_in(
    tmp_path: pathlib.Path, options: tuple[str, ...], differing: str
) -> None:
    path = tmp_path / "run"
    train(config(env="Changing-v0", memory="gru", steps=160), path)
    policy, loaded = load_policy(path)
    assert evaluate_task(loaded, policy, 0, 2).episodes == 2
    loaded.evaluate_options = options
    for play in (lambda: evaluate_task(loaded, policy, 0, 2), lambda: record(policy, loaded, 0, 3)):
        with pytest.raises(ValueError, match=rf"trained in other spaces than those of Changing-v0: {differing}"):
            play()
    saved = json.loads((path / "config.json").read_text())
    saved["config"]["env_options"] = options  # the task was changed since
    (path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=differing):
        load_policy(path)
    with pytest.raises(ValueError, match=differing):
        train(config(env="Changing-v0", memory="gru", steps=320, env_options=options), path, resume=True)


def test_triton_is_loaded_before_the_environments() -> None:
    """An optimiser loads it later, and dies of the LLVM of a software renderer that an environment has loaded first."""
    pytest.importorskip("triton")
    code = """
import sys, hadamem
from gymnasium.envs.classic_control import CartPoleEnv

class Seen(CartPoleEnv):
    loaded = []

    def __init__(self):
        super().__init__()
        self.loaded.append("triton" in sys.modules)

agent = hadamem.PPO("gru", Seen, memory_size=8, num_envs=2, num_steps=8, minibatches=1)
Seen.loaded.clear()
agent.learn(16)
assert Seen.loaded == [True, True], Seen.loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

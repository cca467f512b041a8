"""hadamem and sb3-contrib's RecurrentPPO on control tasks without velocities: return, wall time, steps per second.

RecurrentPPO has the settings that rl-baselines3-zoo publishes for these tasks (hyperparams/ppo_lstm.yml), hadamem its
defaults. Both play the same environment for the same number of steps, each rounded up to whole rollouts, one run after the
other, each in a process of its own with one thread. Wall time is that of training alone, without imports and evaluation,
and without the compilation of hadamem's kernels, which takes some seconds once on a machine.
This needs the extra [peers].

    python benchmarks/peers.py --seeds 5 --data docs/results/data/peers.json
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from typing import Any

import torch
import tyro

from hadamem.cli.console import say
from hadamem.cli.main import main as hadamem
from hadamem.disk import write_whole
from hadamem.memory import memory_class
from hadamem.recipes.arguments import memory_words
from hadamem.run import read_metrics, versions
from hadamem.sweeps.runs import evaluate_run
from hadamem.text import markdown_table

PEER = "RecurrentPPO"
EPISODES = 100  # episodes of the evaluation, played greedily


@dataclass(frozen=True)
class Setting:
    """The settings with which rl-baselines3-zoo trains a task; all tasks have `normalize: true`.

    Attributes:
        steps: environment steps.
        num_envs: number of environments.
        algorithm: arguments of RecurrentPPO.
        policy: arguments of its policy, `activation_fn` by its name in torch.nn.
        linear: arguments of RecurrentPPO that fall linearly to zero, with their first values.
    """

    steps: int
    num_envs: int
    algorithm: dict[str, Any]
    policy: dict[str, Any]
    linear: dict[str, float]


SMALL_LSTM = {
    "ortho_init": False,
    "activation_fn": "ReLU",
    "lstm_hidden_size": 64,
    "enable_critic_lstm": True,
    "net_arch": {"pi": [64], "vf": [64]},
}
SETTINGS = {
    "hadamem/CartPoleNoVel-v0": Setting(
        steps=100_000,
        num_envs=8,
        algorithm={"n_steps": 32, "batch_size": 256, "n_epochs": 20, "gamma": 0.98, "gae_lambda": 0.8, "ent_coef": 0.0},
        policy=SMALL_LSTM,
        linear={"learning_rate": 0.001, "clip_range": 0.2},
    ),
    "hadamem/PendulumNoVel-v0": Setting(
        steps=100_000,
        num_envs=4,
        algorithm={
            "n_steps": 1024,
            "n_epochs": 10,
            "gamma": 0.9,
            "gae_lambda": 0.95,
            "ent_coef": 0.0,
            "learning_rate": 1e-3,
            "clip_range": 0.2,
            "use_sde": True,
            "sde_sample_freq": 4,
        },
        policy=SMALL_LSTM,
        linear={},
    ),
    "hadamem/MountainCarContinuousNoVel-v0": Setting(
        steps=300_000,
        num_envs=8,
        algorithm={
            "n_steps": 1024,
            "batch_size": 256,
            "n_epochs": 10,
            "gamma": 0.9999,
            "gae_lambda": 0.9,
            "ent_coef": 0.00429,
            "learning_rate": 7.77e-5,
            "clip_range": 0.1,
            "vf_coef": 0.19,
            "max_grad_norm": 5,
            "use_sde": True,
            "sde_sample_freq": 8,
        },
        policy={
            "log_std_init": 0.0,
            "ortho_init": False,
            "lstm_hidden_size": 32,
            "enable_critic_lstm": True,
            "net_arch": {"pi": [64], "vf": [64]},
        },
        linear={},
    ),
}


@dataclass(kw_only=True)
class Peers:
    """Train hadamem and RecurrentPPO in turn and compare them. If started again, it continues after the last run in --data."""

    tasks: tuple[str, ...] = tuple(SETTINGS)
    """tasks, one or more of these three"""
    contenders: tuple[str, ...] = (PEER, "gru", "shm")
    """RecurrentPPO, and memories of hadamem with size and options: gru gru:256 "shm:64 theta=fixed" """
    seeds: int = 5
    """number of seeds, which are counted from 0"""
    steps: int | None = None
    """environment steps of each run; none: those of rl-baselines3-zoo, 100,000 or 300,000"""
    data: pathlib.Path = pathlib.Path("runs/peers.json")
    """file of results, written after each run; runs whose results are in it are not made again"""
    only_print: bool = False
    """print the results in --data, and make no run"""

    def __post_init__(self) -> None:
        if unknown := set(self.tasks) - set(SETTINGS):
            raise ValueError(f"tasks has {', '.join(sorted(unknown))}; it must be some of {', '.join(SETTINGS)}")
        for contender in set(self.contenders) - {PEER}:
            memory_class(memory_words(contender)[1])
        for name in ("seeds", "steps"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ValueError(f"{name} is {number}; it must be at least 1")


def train_peer(task: str, seed: int, steps: int) -> dict[str, Any]:
    """Train and evaluate RecurrentPPO, see `train`."""
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    setting = SETTINGS[task]
    schedules = {name: (lambda remaining, first=first: remaining * first) for name, first in setting.linear.items()}
    policy = dict(setting.policy)
    if "activation_fn" in policy:
        policy["activation_fn"] = getattr(torch.nn, policy["activation_fn"])
    env = VecNormalize(make_vec_env(task, setting.num_envs, seed=seed), gamma=setting.algorithm["gamma"])
    model = RecurrentPPO("MlpLstmPolicy", env, **setting.algorithm, **schedules, policy_kwargs=policy, seed=seed, device="cpu")
    begin = time.perf_counter()
    model.learn(steps)
    seconds = time.perf_counter() - begin

    fresh = VecNormalize(make_vec_env(task, setting.num_envs, seed=1_000_000 + seed), training=False, norm_reward=False)
    fresh.obs_rms = env.obs_rms
    returns, _ = evaluate_policy(model, fresh, EPISODES, deterministic=True, return_episode_rewards=True)
    packages = {name: version(name) for name in ("sb3-contrib", "stable-baselines3")}
    return {"return": statistics.fmean(returns), "steps_made": model.num_timesteps, "seconds": seconds, "packages": packages}


def train_own(task: str, memory: str, seed: int, steps: int) -> dict[str, Any]:
    """Train and evaluate hadamem with a memory, see `train`."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        path = pathlib.Path(folder) / "run"
        words = ["--env", task, *memory_words(memory), "--steps", str(steps), "--seed", str(seed), "--threads", "1"]
        sys.argv = ["hadamem", "train", *words, "--out", str(path)]
        hadamem()
        last = read_metrics(path)[-1]
        return {"return": evaluate_run(path, EPISODES).mean, "steps_made": last["step"], "seconds": last["seconds"]}


def train(task: str, contender: str, seed: int, steps: int) -> dict[str, Any]:
    """Make one run.

    Returns:
        return (mean of 100 greedy episodes), steps_made, seconds (of training) and, of RecurrentPPO, packages.
    """
    torch.set_num_threads(1)
    return train_peer(task, seed, steps) if contender == PEER else train_own(task, contender, seed, steps)


def in_fresh_process(*arguments: Any) -> dict[str, Any]:
    """Call `train` in a process of its own, in which all libraries use one thread from the start."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(train, *arguments).result()


def rows(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each task, number of steps and contender: means over its seeds, ± the standard deviation of the returns over
    seeds, and its wall time as a share of RecurrentPPO's on the seeds that both have."""
    groups: dict[tuple[str, int, str], dict[int, dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["task"], result["steps"], result["contender"]), {})[result["seed"]] = result
    table = []
    for (task, steps, contender), runs in groups.items():
        returns = [run["return"] for run in runs.values()]
        deviation = f" ± {statistics.stdev(returns):.1f}" if len(returns) > 1 else ""
        seconds = sum(run["seconds"] for run in runs.values())
        peer = groups.get((task, steps, PEER), {})
        both = runs.keys() & peer.keys()
        ratio = sum(runs[seed]["seconds"] for seed in both) / sum(peer[seed]["seconds"] for seed in both) if both else None
        row = {
            "task": task,
            "steps": steps,
            "contender": contender,
            "seeds": len(runs),
            "return": f"{statistics.fmean(returns):.1f}{deviation}",
            "wall time, s": f"{seconds / len(runs):.1f}",
            "steps/s": round(sum(run["steps_made"] for run in runs.values()) / seconds),
            f"wall time / {PEER}'s": "" if ratio is None else f"{ratio:.2f}",
        }
        table.append(row)
    return table


def main() -> None:
    """Make the runs that are missing, and print the table of results."""
    options = tyro.cli(Peers, description=__doc__)
    results = json.loads(options.data.read_text()) if options.data.exists() else []
    done = {(result["task"], result["contender"], result["seed"], result["steps"]): result for result in results}
    asked = [
        (task, contender, seed, options.steps or SETTINGS[task].steps)
        for seed in range(options.seeds)
        for task in options.tasks
        for contender in options.contenders
    ]
    if options.only_print:
        asked = [key for key in asked if key in done]
    compiled = {PEER}
    for key in asked:
        if key not in done:
            task, contender, seed, steps = key
            if contender not in compiled:
                in_fresh_process(task, contender, seed, 1)  # compiles the kernels of this memory into the cache
                compiled.add(contender)
            names = {"task": task, "contender": contender, "seed": seed, "steps": steps}
            result = names | in_fresh_process(*key) | {"versions": versions()}
            done[key] = result
            write_whole(options.data, json.dumps(list(done.values()), indent=1) + "\n")
            speed = f"{result['seconds']:.1f} s, {result['steps_made'] / result['seconds']:,.0f} steps/s"
            say(f"{contender} on {task}, seed {seed}: return {result['return']:.1f}, {speed}")
    order = sorted(asked, key=lambda key: (options.tasks.index(key[0]), options.contenders.index(key[1]), key[2]))
    print(markdown_table(rows([done[key] for key in order])))


if __name__ == "__main__":
    main()

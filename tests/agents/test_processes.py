"""Processes that train together: the gradients of one, one folder, one end."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
from dataclasses import replace

import gymnasium
import pytest
import torch
from test_sac import agent as sac_agent
from test_sac import small
from test_training import config

import hadamem
from hadamem import distributed
from hadamem.agents.making import make_agent, make_environment
from hadamem.agents.ppo import PPO
from hadamem.agents.progress import Progress
from hadamem.agents.replay import Batch
from hadamem.agents.training import train
from hadamem.run import read_checkpoint, read_config, read_metrics

ALL = 4  # environments, or sequences, of all processes


def share() -> slice:
    each = distributed.share(ALL, "ALL")
    return slice(distributed.rank() * each, (distributed.rank() + 1) * each)


def learn(folder: pathlib.Path) -> None:
    """Learn once from this process's share of what ALL environments have seen, and write the gradients and statistics."""
    learn_ppo(folder)
    learn_sac(folder)


def learn_ppo(folder: pathlib.Path) -> None:
    given = config(env="CartPole-v1", memory="gru")
    given.ppo = replace(given.ppo, num_envs=ALL, minibatches=1, max_grad_norm=None)
    torch.manual_seed(0)
    everyone = make_agent(given, make_environment(given, ALL, 0))
    assert isinstance(everyone, PPO)
    torch.manual_seed(0)  # each process draws numbers of its own
    everyone.actor.collect(everyone.rollout, 0.9)
    torch.manual_seed(0)
    mine = make_agent(given, make_environment(given, ALL // distributed.size(), 0))
    assert isinstance(mine, PPO)
    mine.policy.load_state_dict(everyone.policy.state_dict())
    for name, value in vars(everyone.rollout).items():
        part = {leaf: rows[share()] for leaf, rows in value.items()} if name == "state" else value[:][share()]
        setattr(mine.rollout, name, part)
    metrics = mine._learn()
    mine.policy.normaliser.update(mine.rollout.obs)
    write(folder / "ppo", mine.policy, metrics)


def learn_sac(folder: pathlib.Path) -> None:
    mine = sac_agent(small("popgym-RepeatPreviousEasy-v0", "gru", num_envs=4))
    generator = torch.Generator().manual_seed(1)
    length = torch.tensor([5, 3, 2, 4])[:, None]
    batch = Batch(
        obs=torch.randn(ALL, 6, mine.actor.env.layout.size, generator=generator),
        action=torch.randint(4, (ALL, 5, 1), generator=generator),
        reward=torch.randn(ALL, 5, generator=generator),
        terminal=torch.rand(ALL, 5, generator=generator) < 0.3,
        mask=torch.arange(5) < length,
        clock=torch.zeros(ALL, dtype=torch.int64),
    )
    mine.update(Batch(*(leaf[share()] for leaf in batch)))
    write(folder / "sac-actor", mine.policy, {})
    write(folder / "sac-critic", mine.critic, {})


def write(path: pathlib.Path, network: torch.nn.Module, metrics: dict[str, float]) -> None:
    gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    found = gradients | dict(network.named_buffers()) | {name: torch.tensor(value) for name, value in metrics.items()}
    torch.save(found, path.with_suffix(f".{distributed.rank()}of{distributed.size()}"))


def test_two_processes_learn_what_one_would(tmp_path: pathlib.Path) -> None:
    learn(tmp_path)
    with distributed.processes(2, learn, tmp_path):
        learn(tmp_path)
    for name in ("ppo", "sac-actor", "sac-critic"):
        want, first, second = (torch.load(tmp_path / f"{name}.{which}") for which in ("0of1", "0of2", "1of2"))
        assert want.keys() == first.keys()
        for key, value in want.items():
            assert torch.equal(first[key], second[key]), key
            torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-6)


def together(**changes: object) -> object:
    return config(memory="gru", processes=2, steps=160 * 4, **changes)


class KillsTheOther(Progress):
    """Ends the second process in the middle of the third iteration."""

    def update(self, done: int, mean_return: float | None = None) -> None:
        if done == 160 * 2 + 40:
            (other,) = multiprocessing.active_children()
            os.kill(other.pid, signal.SIGKILL)


def test_a_killed_process_ends_all_and_resumed_equals_uninterrupted(tmp_path: pathlib.Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train(together(), whole)
    with pytest.raises(distributed.ProcessDiedError, match=r"process 1 of the training .* was ended by SIGKILL") as caught:
        train(together(), killed, progress=KillsTheOther)
    assert "the checkpoint of step 320 is whole" in caught.value.__notes__[0]
    assert train(together(), killed, resume=True)
    a, b = (read_checkpoint(path)["agent"]["policy"] for path in (killed, whole))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert [line["step"] for line in read_metrics(killed)] == [160 * n for n in range(1, 5)]


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_another_number_of_processes_goes_on(algorithm: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    given = together() if algorithm == "ppo" else replace(small("popgym-RepeatPreviousEasy-v0"), processes=2, steps=480)
    run = tmp_path / "run"
    assert train(given, run)
    assert len(read_checkpoint(run)["others"]) == 1
    steps = 2 * given.steps
    assert train(replace(given, processes=1, steps=steps), run, resume=True)
    assert "1 processes go on with what 2 have learned: new episodes begin" in caplog.text
    assert read_metrics(run)[-1]["step"] == steps
    assert read_config(run)["processes"] == 1
    assert not read_checkpoint(run)["others"]


def test_what_cannot_be_shared_out_is_told(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="num_envs is 4; it must be a multiple of the number of processes, which is 3"):
        train(config(processes=3), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="minibatches is 2; it must divide the 1 environments of each process"):
        train(config(processes=4), tmp_path / "run")


def test_what_another_process_cannot_make_is_told(tmp_path: pathlib.Path) -> None:
    agent = hadamem.PPO("gru", gymnasium.make("CartPole-v1"), num_envs=4, minibatches=1, processes=2)
    with pytest.raises(ValueError, match=r"python\.CartPoleEnv-\d+ can be made by this program only, and not by 2 processes"):
        agent.learn(100)
    program = tmp_path / "program.py"
    program.write_text(
        "import hadamem\n"
        "hadamem.PPO('gru', 'CartPole-v1', memory_size=4, num_envs=4, num_steps=8, minibatches=1, processes=2).learn(64)\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert (
        'ended before it began; a program of your own must start the training below `if __name__ == "__main__":`' in done.stderr
    )


def test_torchrun_on_two_nodes(tmp_path: pathlib.Path) -> None:
    port = 20_000 + os.getpid() % 10_000  # below those that the system gives to others
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    run = ["-m", "hadamem", "train", "--env", "CartPole-v1", "--memory", "gru", "--memory-size", "4", "--num-envs", "2"]
    run += ["--num-steps", "16", "--minibatches", "1", "--steps", "128", "--out", str(tmp_path / "run")]
    nodes = [
        subprocess.Popen([*torchrun, "--node-rank", str(n), *run], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for n in range(2)
    ]
    said = [node.communicate(timeout=60)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert read_config(tmp_path / "run")["processes"] == 2
    assert read_metrics(tmp_path / "run")[-1]["step"] == 128
    assert [str(tmp_path / "run") in text for text in said] == [True, False]  # one talks

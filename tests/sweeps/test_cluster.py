"""A sweep, and a training by two processes, on a Ray cluster of two nodes, both on this machine."""

from __future__ import annotations

import pathlib
import threading
import time

import pytest

from hadamem.cli.sweep import sweep
from hadamem.cli.train import train
from hadamem.report.results import find_results
from hadamem.run import has_checkpoint, read_checkpoint, read_metrics, read_saved

cluster_utils = pytest.importorskip("ray.cluster_utils", reason="takes pip install 'hadamem[ray]', of 500 MB")
TMAZE = "hadamem/TMazePassive-v0 corridor_length="
SMALL = ("--num-envs", "4", "--num-steps", "40", "--minibatches", "2", "--epochs", "1", "--steps", "320")


def test_sweep_on_two_nodes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        cluster.add_node(num_cpus=2)  # the work cannot be done but here
        command = ["--tasks", f"{TMAZE}3", f"{TMAZE}-3", "--memories", "mlp", "--data", "data", *SMALL]
        for _ in range(2):  # the second time, only what failed is tried again
            with pytest.raises(SystemExit) as end:
                sweep([*command, "--ray", cluster.address])
            assert end.value.code == 1
            assert "corridor_length is -3" in capfd.readouterr().err
    finally:
        cluster.shutdown()
    paths = pathlib.Path("runs"), pathlib.Path("data")
    folder, kept = (result for result in find_results(paths) if result.complete)
    assert folder.key == kept.key
    assert folder.steps == 320
    assert not pathlib.Path("runs/sweep/.ray").exists()


def test_training_goes_on_when_a_node_is_lost(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes on two nodes; one of these is killed, another joins, and the run goes on from its checkpoint."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    words = ["--env", "CartPole-v1", "--memory", "gru", "--memory-size", "4", "--num-envs", "4", "--num-steps", "32"]
    words += ["--minibatches", "2", "--epochs", "1", "--steps", "60000", "--checkpoint-every", "0.5"]
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        cluster.add_node(num_cpus=1)
        lost = cluster.add_node(num_cpus=1)
        training = threading.Thread(
            target=train, args=([*words, "--processes", "2", "--ray", cluster.address, "--out", str(out)],), daemon=True
        )
        training.start()
        while not (read_metrics(out) and read_metrics(out)[-1]["step"] > 10_000 and has_checkpoint(out)):
            assert training.is_alive()
            time.sleep(0.2)
        cluster.remove_node(lost)
        before = read_checkpoint(out)["agent"]["step"]
        cluster.add_node(num_cpus=1)
        training.join(180)
        assert not training.is_alive()
    finally:
        cluster.shutdown()
    steps = [line["step"] for line in read_metrics(out)]
    assert steps == sorted(set(steps))  # each once: what was lost is not there twice
    assert steps[-1] >= 60_000 > before
    assert read_saved(out).config["processes"] == 2
    assert (out / "result.json").exists()


def test_what_cannot_be_trained_is_said_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        with pytest.raises(ValueError, match="corridor_length is -3"):
            train(
                [
                    "--env",
                    "hadamem/TMazePassive-v0",
                    "--env-options",
                    "corridor_length=-3",
                    "--ray",
                    cluster.address,
                    "--out",
                    "run",
                ]
            )
    finally:
        cluster.shutdown()

"""A sweep on a Ray cluster of two nodes, both on this machine."""

from __future__ import annotations

import pathlib

import pytest

from hadamem.cli.sweep import sweep
from hadamem.report.results import find_results

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

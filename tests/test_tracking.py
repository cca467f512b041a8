"""Metrics in Weights & Biases and MLflow, without a network; and that a training depends on neither."""

from __future__ import annotations

import logging
import pathlib
import time
from dataclasses import dataclass

import pytest
import torch

from hadamem import tracking
from hadamem.agents import PPOConfig, TrainConfig, train
from hadamem.run import Run, read_metrics


@dataclass
class Config:
    steps: int = 10
    track: tuple[str, ...] = ()


def config(*names: str) -> TrainConfig:
    ppo = PPOConfig(num_envs=2, num_steps=16, minibatches=1, epochs=1)
    return TrainConfig("CartPole-v1", memory="gru", memory_size=4, steps=64, threads=1, track=names, ppo=ppo)


def test_mlflow(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every metric of every iteration, the configuration, the files; and a run that goes on has the same id."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    train(config("mlflow"), tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    id = (tmp_path / "run" / "mlflow.id").read_text()
    client = mlflow.MlflowClient()
    run = client.get_run(id)
    assert run.info.status == "FINISHED"
    assert run.data.params["memory"] == "gru"
    assert run.data.params["ppo.num_steps"] == "16"
    history = [(point.step, point.value) for point in client.get_metric_history(id, "policy_loss")]
    assert history == [(line["step"], pytest.approx(line["policy_loss"])) for line in lines]
    assert {file.path for file in client.list_artifacts(id)} == {"config.json", "result.json"}
    longer = config("mlflow")
    longer.steps = 128
    train(longer, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "mlflow.id").read_text() == id
    assert client.get_metric_history(id, "policy_loss")[-1].step == 128


def test_wandb_offline(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(config("wandb"), tmp_path / "run")
    id = (tmp_path / "run" / "wandb.id").read_text()
    (written,) = (tmp_path / "run" / "wandb").glob(f"offline-run-*/run-{id}.wandb")
    deadline = time.monotonic() + 30  # W&B's own process writes the file, which may come after the end of the run
    while b"policy_loss" not in written.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert b"policy_loss" in written.read_bytes()
    assert (written.parent / "files" / "result.json").exists()
    assert "no longer written" not in caplog.text


def test_a_training_depends_on_none(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(tracking.Tracker):
        name = "Broken"
        points = 0

        def begin(self, *_: object) -> None:
            pass

        def add(self, *_: object) -> None:
            Broken.points += 1
            if Broken.points == 2:
                raise RuntimeError("no route to host")

        def attach(self, file: pathlib.Path) -> None:
            raise AssertionError("it is left out from the first error on")

        def end(self) -> None:
            pass

    monkeypatch.setitem(tracking.TRACKERS, "broken", (Broken, "torch"))
    with caplog.at_level(logging.WARNING), Run.create(tmp_path / "run", Config(track=("broken",))) as run:
        for step in range(4):
            run.log(step, {"return": 1.0})
        run.save({"agent": {"step": 3, "policy": {}}, "random": [torch.get_rng_state()], "seconds": 1.0})
        run.finish({})
    assert Broken.points == 2
    assert [record.getMessage() for record in caplog.records] == [
        "Broken: no longer written, the training goes on: no route to host"
    ]


def test_names_and_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="track holds 'comet'; it may hold wandb and mlflow"):
        config("comet")
    monkeypatch.setitem(tracking.TRACKERS, "wandb", (tracking.WeightsAndBiases, "not_there"))
    with pytest.raises(ModuleNotFoundError, match=r"not_there is not installed; pip install 'hadamem\[wandb\]'"):
        train(config("wandb"), tmp_path / "run")
    assert not (tmp_path / "run").exists()

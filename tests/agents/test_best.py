"""The best policy of a training is kept beside the last."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import torch
from test_training import config

import hadamem
from hadamem.agents.config import TrainConfig
from hadamem.agents.evaluation import Evaluation
from hadamem.agents.training import load_policy, train
from hadamem.report.results import find_results


def test_the_policy_that_did_best_is_kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of six evaluations the third is the best; a run that goes on keeps it until it is beaten. It is a folder like a run's."""
    seen: list[dict[str, torch.Tensor]] = []
    means = iter([1.0, -2.0, 5.0, 5.0, 4.0, 6.0])

    def evaluated(config: TrainConfig, policy: torch.nn.Module, *_: Any) -> Evaluation:
        seen.append({name: tensor.clone() for name, tensor in policy.state_dict().items()})
        return Evaluation(mean=next(means), std=0.0, ci95=0.0, episodes=1, mean_length=1.0)

    path, best = tmp_path / "run", tmp_path / "run" / "best"
    monkeypatch.setattr("hadamem.agents.training.evaluate_task", evaluated)
    train(config(steps=160 * 4, evaluate_every=160), path)
    train(config(steps=160 * 5, evaluate_every=160), path, resume=True)
    assert json.loads((best / "result.json").read_text()) == {"steps": 160 * 3, "evaluation_return": 5.0}
    policy, _ = load_policy(best)
    assert all(torch.equal(tensor, seen[2][name]) for name, tensor in policy.state_dict().items())
    assert hadamem.load(best).act(0) in range(4)
    assert [result.path for result in find_results([tmp_path])] == [str(path)]
    train(config(steps=160 * 6, evaluate_every=160), path, resume=True)
    assert json.loads((best / "result.json").read_text())["steps"] == 160 * 6
    with pytest.raises(ValueError, match=r"best holds a policy alone; resume .*run, or begin a new run with --start-from"):
        train(config(steps=160 * 7), best, resume=True)
    train(config(steps=160, start_from=str(best)), tmp_path / "further")

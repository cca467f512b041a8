"""Plays a policy that `hadamem export` wrote, with numpy, onnxruntime and gymnasium alone: python onnx_play.py policy.onnx

The file names its inputs and outputs. Inputs are the leaves of an observation ("obs", "obs.KEY"), "start" (true at the first
step of an episode), the leaves of the policy's state ("state.NAME"), and "reward" and "mask" if the policy was trained with
them; the first axis of each is the batch. Outputs are "action" (or "action.KEY") in the environment's own terms, and
"new_state.NAME".
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import gymnasium
import numpy as np
import onnxruntime

TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8, "tensor(int16)": np.int16, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
}  # fmt: skip


class OnnxPolicy:
    """An exported policy and its state, for one environment."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {node.name: (TYPES[node.type], node.shape[1:]) for node in self.session.get_inputs()}
        self.outputs = [node.name for node in self.session.get_outputs()]
        self.about = self.session.get_modelmeta().custom_metadata_map  # format, config, interface, versions, steps: JSON
        self.reset()

    def reset(self) -> None:
        """Begin an episode. At its first step, the values in the state do not count, so they may be zeros."""
        self.start = True
        zeros = {name: np.zeros((1, *shape), kind) for name, (kind, shape) in self.inputs.items()}
        self.state = {name: value for name, value in zeros.items() if name.startswith("state.")}

    def act(self, observation: Any, reward: float = 0.0, mask: Any = None) -> Any:
        """Return the most likely action."""
        if mask is None and isinstance(observation, dict):
            mask = observation.get("action_mask")
        given = dict(leaves("obs", observation))
        given |= {"reward": reward, "start": self.start} | ({} if mask is None else {"mask": mask})
        feed = {name: np.asarray(given[name], kind)[None] for name, (kind, _) in self.inputs.items() if name in given}
        played = dict(zip(self.outputs, self.session.run(None, feed | self.state), strict=True))
        self.state = {name: played[f"new_{name}"] for name in self.state}
        self.start = False
        parts = {name: value[0] for name, value in played.items() if name.split(".")[0] == "action"}
        return parts["action"] if "action" in parts else nested(parts)


def leaves(name: str, value: Any) -> Any:
    """The parts of a nested observation, each with the name that it has in the file."""
    if isinstance(value, dict | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(f"{name}.{key}", part)
    else:
        yield name, value


def nested(parts: dict[str, Any]) -> dict[str, Any]:
    """{"action.a": 1, "action.b.c": 2} -> {"a": 1, "b": {"c": 2}}"""
    action: dict[str, Any] = {}
    for name, value in parts.items():
        *path, last = name.split(".")[1:]
        inner = action
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return action


def main() -> None:
    """Play some episodes, and print the mean return."""
    parser = argparse.ArgumentParser(description="Play a policy that hadamem export wrote.")
    parser.add_argument("file")
    parser.add_argument("--env", help="id of the environment; default: the environment of the training")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    policy = OnnxPolicy(given.file)
    config = json.loads(policy.about["config"])
    print(f"{config['agent']} with {config['memory']}, trained on {config['env']} for {int(policy.about['steps']):,} steps")
    env = gymnasium.make(given.env or config["env"])
    returns = []
    for episode in range(given.episodes):
        observation, info = env.reset(seed=given.seed + episode)
        policy.reset()
        total = reward = 0.0
        end = False
        while not end:
            action = policy.act(observation, reward, info.get("action_mask"))
            observation, reward, terminated, truncated, info = env.step(action)
            total, end = total + float(reward), terminated or truncated
        returns.append(total)
    print(f"mean return {np.mean(returns):.3f} in {len(returns)} episodes")


if __name__ == "__main__":
    main()

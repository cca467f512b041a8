"""Training recipes: data, not code. A preset is a set of defaults; whatever the command line says wins over it.

Keys: "ppo" and "network" override the fields of PPOConfig and NetworkConfig; "memory" gives a memory its size, options and
network; "inputs" is what the agent is fed;
"tasks" holds further overrides for task names that match a pattern (the first that matches).
"""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import replace
from typing import Any

from ..agents.ppo import PPOConfig
from ..agents.training import TrainConfig
from ..networks import NetworkConfig

_ONE_STEP = {"gamma": 0.0, "gae_lambda": 0.0, "entropy_coefficient": 0.05, "minibatches": 32}

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {
        "about": "few epochs and a large step, for 2 cores; softmax features and a normalised read-out for SHM",
        "ppo": {"schedule": "linear"},
        "network": {"memory_input_activation": False},
        "memory": {
            "shm": {"size": 64, "options": ("feature_map=softmax", "read_norm=true")},
            "gru": {"size": 128},
            "lstm": {"size": 128},
        },
        "tasks": {
            # every reward answers one action, at once: no credit horizon, and curiosity at each step of its own
            "popgym-RepeatPrevious*": {"ppo": _ONE_STEP},
            "popgym-Autoencode*": {"ppo": _ONE_STEP},
        },
    },
    "popgym-paper": {
        "about": "as released for POPGym with RLlib 2.3, fixed theta included: 30 epochs on 65,536 steps, KL penalty",
        "ppo": {
            "num_envs": 64,
            "num_steps": 1024,
            "epochs": 30,
            "minibatches": 8,
            "learning_rate": 5e-5,
            "schedule": "constant",
            "adam_epsilon": 1e-8,
            "gamma": 0.99,
            "gae_lambda": 1.0,
            "clip": 0.3,
            "value_loss_cap": 10.0,
            "value_coefficient": 1.0,
            "entropy_coefficient": 0.0,
            "max_grad_norm": None,
            "kl_coefficient": 0.2,
            "kl_target": 0.01,
        },
        "network": {"memory_output_size": 1024, "head_activation": False},
        "memory": {
            "shm": {"size": 128, "options": ("theta=fixed", "shortcut=true")},
            "gru": {"size": 256, "network": {"position_code": False}},
            "lstm": {"size": 256, "network": {"position_code": False}},
            "mlp": {"size": 256},
        },
        "inputs": ("obs",),
        "tasks": {"popgym-*Hard-v0": {"memory": {"shm": {"size": 32, "options": ("theta=fixed", "shortcut=true")}}}},
    },
}


def preset_config(preset: str, env: str, memory: str) -> TrainConfig:
    """The defaults of a preset for a task and a memory.

    Raises:
        ValueError: there is no such preset.
    """
    if preset not in PRESETS:
        near = difflib.get_close_matches(preset, PRESETS, n=1, cutoff=0.3) or list(PRESETS)
        raise ValueError(f"no preset is called {preset!r}; did you mean {near[0]}? All: {', '.join(PRESETS)}")
    layers = [PRESETS[preset]]
    layers += [extra for pattern, extra in layers[0]["tasks"].items() if fnmatch.fnmatch(env, pattern)][:1]
    ppo, network, inputs = PPOConfig(), NetworkConfig(), None
    known: dict[str, Any] = {}
    for layer in layers:
        network = replace(network, **layer.get("network", {}))
        ppo = replace(ppo, **layer.get("ppo", {}))
        known = layer.get("memory", {}).get(memory, known)
        inputs = layer.get("inputs", inputs)
    network = replace(network, **known.get("network", {}))
    return TrainConfig(
        env=env,
        memory=memory,
        memory_size=known.get("size"),
        memory_options=known.get("options", ()),
        inputs=inputs,
        ppo=replace(ppo, network=network),
    )

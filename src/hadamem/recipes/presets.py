"""Training recipes, as data. A preset is a set of defaults; options on the command line override it.

Keys: "agent" names the learning algorithm; "algorithm" and "network" override fields of its configuration (PPOConfig, ...) and
of its network's configuration; "memory" gives, for some memories, their size and options and further overrides of "algorithm"
and "network"; "train" overrides fields of TrainConfig; "rollout_by_steps" says whether `rollout_size` chooses the rollout;
"tasks" holds further overrides for tasks whose name matches a pattern (the first pattern that matches).
"""

from __future__ import annotations

import difflib
import fnmatch
import math
from dataclasses import replace
from typing import Any

from ..agents.config import ALGORITHMS, TrainConfig

#: The preset of each agent that is used if none is named.
DEFAULTS = {"ppo": "fast", "sac": "sac-fast", "r2d2": "r2d2-fast"}

_SMALLEST_ROLLOUT, _LARGEST_ROLLOUT = 256, 65_536  # environment steps


def rollout_size(steps: int) -> dict[str, int]:
    """Numbers of environments, steps and minibatches of a rollout, for a run of `steps` environment steps.

    A run needs many updates before it can profit from large rollouts, so a rollout is at most a fiftieth of the run (but at
    least 256 steps). Longer runs are for harder tasks, where gradients are noisier and have to be averaged over more episodes.
    """
    size = 2 ** math.floor(math.log2(min(max(steps / 50, _SMALLEST_ROLLOUT), _LARGEST_ROLLOUT)))
    num_steps = 32 if size < 2048 else 64 if size < 4096 else 128
    return {"num_envs": size // num_steps, "num_steps": num_steps, "minibatches": min(8, size // 256)}


_NOT_NORMALISED = {"normalise_observations": False, "normalise_values": False}


def _episodes(num_envs: int, num_steps: int, **algorithm: Any) -> dict[str, Any]:
    """Overrides for tasks whose rewards follow at once on an action, but depend on observations tens of steps earlier: many
    whole episodes in each gradient step, since otherwise noise reduces the entropy before anything is learned."""
    batch = {"num_envs": num_envs, "num_steps": num_steps, "minibatches": 8, "schedule": "constant"}
    return {"algorithm": batch | {"gamma": 0.0, "gae_lambda": 0.0, "entropy_coefficient": 0.02} | algorithm}


_ONE_STEP = {"gamma": 0.0, "gae_lambda": 0.0, "entropy_coefficient": 0.05, "minibatches": 32}
_SHM = {
    "size": 32,
    # what changes in the maps into the matrix adds up over an episode: at the full rate CartPole and bandits are learned and
    # unlearned again. The stop keeps the one decisive step of a T-maze from turning over
    "algorithm": {"memory_rate": 0.3, "step_kl_stop": 1.0},
    "options": (
        "heads=7",
        "lag_heads=2",
        "mirror_heads=2",
        "epoch_heads=1",  # without it, nothing at the beginning of a long episode is held
        # and two that find by content; with one, Pendulum was learned less evenly
        "feature_map=softmax",
        "theta=stable",  # can erase on purpose, and never strengthens on average: see docs/theory.md
        "table_scale=0.1",
        "input_norm=false",
        "read_norm=true",
        "read_scale=0.03",
        "shortcut=true",
        "convolution=4",
    ),
}
_UNSEEN = {"evaluate_options": ("split=eval",)}
_PICTURES = {"network": {"observation_embed": 100, "action_embed": 0}}
_FAST: dict[str, dict[str, Any]] = {
    "shm": {"size": 32, "options": ("feature_map=softmax", "read_norm=true")},
    "gru": {"size": 128},
    "lstm": {"size": 128},
}
# for SAC on tasks with a long delay between an action and its reward: a long horizon, and a low temperature, with which the
# entropy bonus does not outweigh the reward
_CREDIT = {
    "algorithm": {"gamma": 0.99, "temperature": 0.03, "tune_temperature": False, "normalise_rewards": False},
    "train": {"steps": 1_000_000, "evaluate_episodes": 100},
}

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {
        "agent": "ppo",
        "about": "the same for every task: rollouts that grow with the steps of the run, short credit, a fast start",
        "rollout_by_steps": True,
        "algorithm": {
            "epochs": 10,
            "schedule": "linear",
            "gamma": 0.98,
            "gae_lambda": 0.9,
            "kl_stop": 0.1,
            "noise_correlation": 0.9,
        },
        # with the step within the episode as an input, a critic could predict when the episode ends, and no advantage would be
        # left; start_code made control tasks worse, too
        "network": {"memory_input_activation": False, "position_code": False},
        "memory": {"shm": _SHM, "gru": {"size": 128}, "lstm": {"size": 128}},
    },
    "popgym-fast": {
        "agent": "ppo",
        "about": "the paper's POPGym tasks on 2 cores, each with the horizon of its rewards: a recipe for every task",
        "algorithm": {"schedule": "linear"},
        "network": {"memory_input_activation": False},
        "memory": _FAST | {"shm": {"size": 64, "options": _FAST["shm"]["options"]}},
        "tasks": {
            # every reward depends on the latest action only: no horizon for credit, and an entropy bonus at each step by itself
            "popgym-RepeatPreviousEasy-v0": {"algorithm": _ONE_STEP},
            "popgym-RepeatPreviousMedium-v0": _episodes(512, 103, entropy_coefficient=0.03),
            "popgym-RepeatPreviousHard-v0": _episodes(320, 155, entropy_coefficient=0.03),
            "popgym-AutoencodeEasy-v0": _episodes(512, 103, entropy_coefficient=0.03),
            "popgym-AutoencodeMedium-v0": _episodes(256, 207),
            "popgym-AutoencodeHard-v0": _episodes(160, 311),
            "popgym-Battleship*": _episodes(512, 64),
            # a pair takes two actions
            "popgym-ConcentrationMedium-v0": _episodes(256, 208, gamma=0.5, gae_lambda=0.5),
            "popgym-Concentration*": _episodes(512, 104, gamma=0.5, gae_lambda=0.5),
        },
    },
    "popgym-paper": {
        "agent": "ppo",
        "about": "as released for POPGym with RLlib 2.3, fixed theta included: 30 epochs on 65,536 steps, KL penalty",
        "algorithm": {
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
        "network": {
            "memory_output_size": 1024,
            "head_activation": False,
            "normalise_observations": False,
            "normalise_values": False,
        },
        "memory": {
            "shm": {"size": 128, "options": ("theta=fixed", "shortcut=true")},
            "gru": {"size": 256, "network": {"position_code": False}},
            "lstm": {"size": 256, "network": {"position_code": False}},
            "mlp": {"size": 256},
        },
        "train": {"inputs": ("obs",)},
        "tasks": {"popgym-*Hard-v0": {"memory": {"shm": {"size": 32, "options": ("theta=fixed", "shortcut=true")}}}},
    },
    "meta-paper": {
        "agent": "sac",
        "about": "as released for Wind and Point Robot, with a GRU for the actor whatever the memory of the critic is",
        "algorithm": {
            "num_envs": 10,
            "num_steps": 100,
            "updates_per_step": 0.5,
            "warmup_steps": 10_000,
            "batch_size": 64,
            "gamma": 0.9,
            "terminal_at_goal": True,
            "actor_memory": "gru",
            "normalise_rewards": False,
        },
        "network": {"observation_embed": 32, "normalise_observations": False, "released_initialisation": True},
        "memory": {"shm": {"size": 24, "options": ("shortcut=true", "clamp=100")}},
        "train": {"steps": 510_000, "evaluate_every": 4_000},
        "tasks": {
            "hadamem/Wind-v0": {"train": _UNSEEN},
            "hadamem/PointRobot-v0": {
                "algorithm": {
                    "num_envs": 25,
                    "num_steps": 200,
                    "updates_per_step": 0.2,
                    "warmup_steps": 80_000,
                    "batch_size": 32,
                    "replay_capacity": 4_000_000,
                },
                "network": {"action_embed": 0, "reward_embed": 8, "memory_output_size": 128},
                "train": {"steps": 1_080_000, "evaluate_every": 20_000, **_UNSEEN},
            },
        },
    },
    "credit-paper": {
        "agent": "sac",
        "about": "for Visual Match and Key-to-Door: the recipe is not released; this is its forerunner's, with the GRU actor",
        "algorithm": {
            "num_envs": 1,
            "num_steps": 100,
            "updates_per_step": 0.25,
            "warmup_steps": 500,
            "batch_size": 32,
            "temperature": 0.1,
            "tune_temperature": False,
            "actor_memory": "gru",
            "normalise_rewards": False,
        },
        "network": {"observation_embed": 100, "action_embed": 0, "memory_output_size": 128, "normalise_observations": False},
        "memory": {"shm": {"size": 24, "options": ("shortcut=true",)}},
        "train": {"steps": 8_500_000, "evaluate_every": 5_000, "evaluate_episodes": 20},
    },
    "meta-fast": {
        "agent": "ppo",
        "about": "whole episodes of many environments, for 2 cores; --num-steps is best an episode's length",
        "algorithm": {
            "num_envs": 512,
            "num_steps": 100,
            "minibatches": 16,
            "gamma": 0.98,
            "entropy_coefficient": 0.003,
            "schedule": "linear",  # with a constant learning rate, the same return is reached and lost again
        },
        "network": {"memory_input_activation": False},
        # to aim, the policy needs the current position directly (by the shortcut), in addition to the memory
        "memory": _FAST | {"shm": {"size": 64, "options": (*_FAST["shm"]["options"], "shortcut=true")}},
        "train": {"steps": 5_000_000},
        "tasks": {
            "hadamem/Wind-v0": {"train": _UNSEEN},
            "hadamem/PointRobot-v0": {"algorithm": {"num_steps": 200}, "train": _UNSEEN},
        },
    },
    "credit-fast": {
        "agent": "ppo",
        "about": "whole episodes of many environments, for 2 cores; --num-steps is best an episode's length",
        "algorithm": {"num_envs": 256, "num_steps": 128, "gamma": 0.95},
        "network": {"memory_input_activation": False},
        "memory": _FAST,
        "train": {"steps": 5_000_000},
        "tasks": {
            # walking on is learned first, and with certainty: some entropy must be left for the choice at the junction
            "hadamem/TMaze*": {"algorithm": {"entropy_coefficient": 0.03}},
            # the remembered colour matters for the next few steps only: with a short horizon, apples do not add noise
            "hadamem/VisualMatch-v0": {"algorithm": {"num_steps": 125, "entropy_coefficient": 0.03}},
            "hadamem/KeyToDoor-v0": {"algorithm": {"num_steps": 113, "gamma": 0.995, "gae_lambda": 0.98}},
        },
    },
    "sac-fast": {
        "agent": "sac",
        "about": "fewer and larger steps, for 2 cores",
        "algorithm": {"num_envs": 20, "updates_per_step": 0.05, "gamma": 0.95, "learning_rate": 1e-3, "tau": 0.02},
        "memory": _FAST,
        "train": {"steps": 300_000, "evaluate_every": 20_000},
        "tasks": {
            # random play reaches the goal in one of some hundred episodes: begin with many such episodes, at a low temperature
            "hadamem/Wind-v0": {
                "algorithm": {"num_envs": 100, "warmup_steps": 300_000, "temperature": 0.01},
                "train": {"steps": 1_000_000, "evaluate_every": 50_000, **_UNSEEN},
            },
            "hadamem/PointRobot-v0": {"network": {"action_embed": 0, "reward_embed": 8}, "train": _UNSEEN},
            "hadamem/TMaze*": _CREDIT,
            "hadamem/DelayedCatch-v0": _CREDIT,
            "hadamem/KeyToDoor-v0": _CREDIT | _PICTURES,
            "hadamem/VisualMatch-v0": _CREDIT | _PICTURES,
        },
    },
    "r2d2-fast": {
        "agent": "r2d2",
        "about": "the same for every task with discrete actions: whole episodes replayed, fewer and larger steps, for 2 cores",
        "algorithm": {"num_envs": 20, "updates_per_step": 0.05, "learning_rate": 1e-3, "tau": 0.02, "max_grad_norm": 1.0},
        "memory": _FAST,
        "train": {"steps": 300_000},
    },
}


def preset_config(preset: str, env: str, memory: str, steps: int | None = None) -> TrainConfig:
    """The defaults of a preset for a task, a memory and a number of environment steps (None: the preset's own number).

    Raises:
        ValueError: there is no such preset.
    """
    _check(preset)
    layers = [PRESETS[preset]]
    layers += [extra for pattern, extra in layers[0].get("tasks", {}).items() if fnmatch.fnmatch(env, pattern)][:1]
    agent, fields = layers[0]["agent"], dict[str, Any]()
    for layer in layers:
        fields |= layer.get("train", {})
    if steps is not None:
        fields["steps"] = steps
    algorithm: Any = ALGORITHMS[agent]()
    if layers[0].get("rollout_by_steps"):
        algorithm = replace(algorithm, **rollout_size(fields.get("steps", TrainConfig.steps)))
    network: Any = algorithm.network
    known: dict[str, Any] = {}
    for layer in layers:
        network = replace(network, **layer.get("network", {}))
        algorithm = replace(algorithm, **layer.get("algorithm", {}))
        known = layer.get("memory", {}).get(memory, known)
    network = replace(network, **known.get("network", {}))
    fields[agent] = replace(algorithm, **known.get("algorithm", {}), network=network)
    return TrainConfig(
        env=env,
        agent=agent,
        memory=memory,
        memory_size=known.get("size"),
        memory_options=known.get("options", ()),
        **fields,
    )


def default_preset(agent: str | None, preset: str | None) -> str:
    """The preset for a given agent, preset name, or neither (None).

    Raises:
        ValueError: there is no preset of that name, or it is for another agent.
    """
    if preset is None:
        return DEFAULTS.get(agent or "ppo", DEFAULTS["ppo"])
    _check(preset)
    if agent not in (None, (its := PRESETS[preset]["agent"])):
        there = ", ".join(name for name, recipe in PRESETS.items() if recipe["agent"] == agent)
        raise ValueError(f"preset {preset!r} is for the agent {its}, not {agent}, which has: {there or 'none'}")
    return preset


def _check(preset: str) -> None:
    if preset not in PRESETS:
        near = difflib.get_close_matches(preset, PRESETS, n=1, cutoff=0.3) or list(PRESETS)
        raise ValueError(f"no preset is called {preset!r}; did you mean {near[0]}? All: {', '.join(PRESETS)}")

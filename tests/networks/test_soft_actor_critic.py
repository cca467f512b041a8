"""The networks of SAC: how they start."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces

from hadamem.envs import Layout, Leaf
from hadamem.networks.soft_actor_critic import MemoryChoice, SACNetworkConfig, SoftActor


def make_actor(released: bool) -> SoftActor:
    torch.manual_seed(0)
    config = SACNetworkConfig(action_embed=0, hidden_sizes=(16, 24), released_initialisation=released)
    layout = Layout((Leaf("obs", "vector", (3,), 0),))
    return SoftActor(layout, spaces.Box(-1, 1, (2,), np.float32), MemoryChoice("gru", 8), config)


def test_the_released_initialisation() -> None:
    actor = make_actor(True)
    for name, parameter in actor.encoder.memory.named_parameters():
        if "bias" in name:
            assert not parameter.any()
        else:
            small = parameter if parameter.shape[0] <= parameter.shape[1] else parameter.T
            torch.testing.assert_close(small @ small.T, torch.eye(len(small)), rtol=0, atol=1e-5)
    *hidden, last = (module for module in actor.mlp if isinstance(module, torch.nn.Linear))
    for linear in hidden:
        bound = linear.out_features**-0.5
        assert 0.8 * bound < linear.weight.abs().max() <= bound
        assert (linear.bias == 0.1).all()
    assert last.weight.abs().max() <= 1e-3


def test_the_default_initialisation_is_torchs() -> None:
    assert make_actor(False).encoder.memory.rnn.bias_ih_l0.any()

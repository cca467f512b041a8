import re

import pytest
import torch
from torch import nn

from hadamem.agents import PPOConfig, SACConfig, TrainConfig
from hadamem.agents.making import make_agent, make_environment
from hadamem.agents.not_finite import not_finite


def network(memory_weight: float = 1.0) -> nn.ModuleDict:
    made = nn.ModuleDict({"encoder": nn.Linear(1, 1, bias=False), "memory": nn.Linear(1, 1, bias=False)})
    nn.init.constant_(made["encoder"].weight, 1.0)
    nn.init.constant_(made["memory"].weight, memory_weight)
    return made


@pytest.mark.parametrize(
    ("weight", "largest", "where", "first_cause"),
    [
        (float("nan"), 1.0, "by the weight policy.memory.weight", "the steps are too large"),
        (1e38, 100.0, "by the output of policy.memory (Linear)", "the memory's state grew without bound"),
        (1.0, 1e30, "", "the numbers of the environment are very large"),
    ],
)
def test_what_was_first_and_the_likeliest_cause(weight: float, largest: float, where: str, first_cause: str) -> None:
    policy, obs = network(weight), torch.tensor([[largest]])

    def again() -> torch.Tensor:
        return policy["memory"](policy["encoder"](obs))

    terms = {"policy_loss": torch.tensor(0.5), "value_loss": torch.tensor(float("inf"))}
    said = str(not_finite(2048, terms, {"policy": policy}, {"observations": obs}, again))
    assert f"after 2,048 steps: value_loss was first{', ' + where if where else ''}." in said
    assert f"observations up to {largest:.3g}" in said
    assert f"the likeliest first: (1) {first_cause}" in said
    assert not policy["memory"]._forward_hooks


@pytest.mark.parametrize(("agent", "layer"), [("ppo", "actor.0"), ("sac", "mlp.0")])
def test_an_agent_names_the_layer(agent: str, layer: str) -> None:
    ppo = PPOConfig(num_envs=2, num_steps=8, minibatches=1) if agent == "ppo" else None
    sac = SACConfig(num_envs=2, num_steps=100, warmup_steps=0, batch_size=2, updates_per_step=0.01) if agent == "sac" else None
    config = TrainConfig(env="CartPole-v1", agent=agent, memory="gru", memory_size=4, ppo=ppo, sac=sac)
    made = make_agent(config, make_environment(config, 2, seed=0))
    made.iterate()
    made.policy.get_submodule(layer).register_forward_hook(lambda module, _, output: output * float("nan"))
    with pytest.raises(FloatingPointError, match=re.escape(f"by the output of policy.{layer} (Linear)")):
        made._learn() if agent == "ppo" else made.update(made.replay.sample(2))

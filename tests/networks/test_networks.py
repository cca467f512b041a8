"""Encoders, position code, action distributions, the actor-critic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from hadamem.envs import Layout, Leaf
from hadamem.envs.layout import Encoder
from hadamem.networks import ActorCritic, NetworkConfig, ObservationEncoder, PositionCode, make_head
from hadamem.networks.heads import SquashedGaussian


def test_position_code_is_the_sine_code() -> None:
    code = PositionCode(8, base=1024.0)
    with torch.no_grad():
        code.mix.fill_(1.0)  # the code alone
    got = code(torch.zeros(1, 1, 8), torch.tensor([[5]]))[0, 0]
    for i in range(4):
        angle = 5 / 1024 ** (2 * i / 8)
        assert got[i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert got[4 + i].item() == pytest.approx(math.cos(angle), abs=1e-6)
    with torch.no_grad():
        code.mix.fill_(-3.0)  # clamped: the input alone
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(code(x, torch.ones(2, 3, dtype=torch.long)), x)


def test_position_code_learns_from_beyond_its_bounds() -> None:
    code = PositionCode(8)
    for value, sign in ((-0.5, -1), (1.5, 1)):
        with torch.no_grad():
            code.mix.fill_(value)
        loss = sign * code(torch.zeros(1, 1, 8), torch.tensor([[5]])).sum()  # the code sums to more than 0: this leads back
        assert sign * torch.autograd.grad(loss, code.mix)[0] > 0


def test_an_observation_of_no_numbers() -> None:
    with pytest.raises(ValueError, match="the observation space holds no numbers"):
        ObservationEncoder(Layout((leaf("vector", (0,), 0),)), 4)


def leaf(kind: str, shape: tuple[int, ...], offset: int) -> Leaf:
    return Leaf("x", kind, shape, offset)


def test_codes_of_a_grid_are_told_apart_whatever_their_numbers() -> None:
    """Of bytes in a small grid each has features of its own; a single cell that differs by 1 is seen. Memory is not asked."""
    (leaf,) = Encoder(spaces.Box(0, 255, (7, 7, 3), np.uint8)).leaves
    torch.manual_seed(0)
    encoder = ObservationEncoder(Layout((leaf,)), 16)
    grids = torch.randint(0, 11, (1, 1, 3, 7, 7)).repeat(4, 1, 1, 1, 1)
    for n, code in enumerate((5, 6, 7, 200)):
        grids[n, 0, 0, 3, 3] = code
    seen = encoder(grids.flatten(2) / 255)[:, 0]
    distances = torch.cdist(seen, seen)[~torch.eye(4, dtype=torch.bool)]
    assert distances.min() > 0.1
    assert distances.max() < 10 * distances.min()
    rounded = encoder((grids / 255).half().float().flatten(2))[:, 0]  # as far as bytes in float16 are from themselves
    torch.testing.assert_close(rounded, seen)


@pytest.mark.parametrize("shape", [(3, 84, 84), (3, 5, 5), (1, 3, 40), (4, 2, 2)])
def test_images_of_any_size_beside_vectors(shape: tuple[int, ...]) -> None:
    pixels = math.prod(shape)
    layout = Layout((leaf("vector", (2,), 0), leaf("image", shape, 2), leaf("vector", (3,), 2 + pixels)))
    encoder = ObservationEncoder(layout, 16)
    obs = torch.rand(2, 4, layout.size)
    want = encoder(obs)
    assert want.shape == (2, 4, 16)
    for column in (0, 2, 2 + pixels):  # every leaf is seen
        other = obs.clone()
        other[..., column] += 0.5
        assert not torch.allclose(encoder(other), want)
    torch.testing.assert_close(encoder(obs[:, 1:2]), want[:, 1:2])


def test_categorical_against_torch() -> None:
    head = make_head(spaces.MultiDiscrete([3, 5]))
    parameters = torch.randn(4, 6, 8)
    action = head.sample(parameters)
    parts = [torch.distributions.Categorical(logits=logits) for logits in parameters.split([3, 5], dim=-1)]
    want = sum(part.log_prob(action[..., i]) for i, part in enumerate(parts))
    torch.testing.assert_close(head.log_prob(parameters, action), want)
    torch.testing.assert_close(head.entropy(parameters), sum(part.entropy() for part in parts))
    assert head.mode(parameters)[..., 1].equal(parameters[..., 3:].argmax(-1))


def test_categorical_samples_its_probabilities() -> None:
    head = make_head(spaces.Discrete(3))
    logits = torch.tensor([0.0, 1.0, -1.0])
    counts = torch.bincount(head.sample(logits.expand(100_000, 3)).flatten(), minlength=3) / 100_000
    torch.testing.assert_close(counts, logits.softmax(-1), atol=0.008, rtol=0)


def test_a_bound_has_the_probability_of_all_that_lies_beyond_it() -> None:
    head = make_head(spaces.Box(np.float32([-4, 1, -np.inf]), np.float32([4, 1, np.inf])))  # the second is a constant
    with torch.no_grad():
        head.log_std[0] = 0.3
    normal = torch.distributions.Normal(0.7, math.exp(0.3))  # in units of half the range
    mean = torch.tensor([0.7, 5.0, 0.2]).requires_grad_()
    free = torch.distributions.Normal(0.2, 1.0).log_prob(torch.tensor(0.5))
    actions = torch.tensor([[-4.0, 1.0, 0.5], [4.0, 1.0, 0.5], [1.0, 1.0, 0.5]])
    below, above, inside = torch.tensor([-1.0, 1.0, 0.25])
    want = torch.stack([normal.cdf(below).log(), (1 - normal.cdf(above)).log(), normal.log_prob(inside)])
    got = head.log_prob(mean.expand(3, 3), actions)
    torch.testing.assert_close(got, want + free)
    (gradient,) = torch.autograd.grad(got.sum(), mean)
    assert gradient.isfinite().all()
    assert gradient[1] == 0
    drawn = head.sample(mean.detach().expand(100_000, 3))
    torch.testing.assert_close((drawn[:, 0] == 4).float().mean(), want[1].exp(), atol=0.008, rtol=0)
    assert (drawn[:, 1] == 1).all()


def test_gaussian_against_torch() -> None:
    head = make_head(spaces.Box(-np.inf, np.inf, (3,)))
    with torch.no_grad():
        head.log_std.copy_(torch.tensor([0.1, -0.5, 0.3]))
    mean = torch.randn(4, 6, 3)
    want = torch.distributions.Normal(mean, head.log_std.exp())
    action = head.sample(mean)
    torch.testing.assert_close(head.log_prob(mean, action), want.log_prob(action).sum(-1))
    torch.testing.assert_close(head.entropy(mean), want.entropy().sum(-1))
    torch.testing.assert_close(head.mode(mean), mean)


def test_gaussian_is_scaled_to_its_bounds() -> None:
    head = make_head(spaces.Box(np.array([0.0, -4.0], np.float32), np.array([2.0, 4.0], np.float32)))
    torch.testing.assert_close(head.mode(torch.tensor([[1.0, -0.5], [0.0, 0.0]])), torch.tensor([[2.0, -2.0], [1.0, 0.0]]))


def test_unknown_action_space() -> None:
    with pytest.raises(ValueError, match=r"Text.*Discrete, MultiDiscrete, MultiBinary or Box"):
        make_head(spaces.Text(3))


@pytest.mark.parametrize("memory", ["shm", "gru", "mlp"])
@pytest.mark.parametrize("position_code", [True, False])
def test_actor_critic_steps_equal_the_sequence(memory: str, position_code: bool) -> None:
    layout = Layout((leaf("vector", (3,), 0),))
    config = NetworkConfig(embed_size=10, hidden_size=12, memory_output_size=14, position_code=position_code)
    policy = ActorCritic(layout, spaces.Discrete(4), memory, 8, config=config).double()
    obs, start = torch.randn(2, 9, 3, dtype=torch.float64), torch.rand(2, 9) < 0.3
    state = policy.initial_state(2)
    logits, value, last = policy(obs, state, start)
    for t in range(9):
        step_logits, step_value, state = policy(obs[:, t : t + 1], state, start[:, t : t + 1])
        torch.testing.assert_close(step_logits[:, 0], logits[:, t])
        torch.testing.assert_close(step_value[:, 0], value[:, t])
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize(
    ("low", "high", "middle", "scale"),
    [
        (-2.0, 4.0, 1.0, 3.0),
        (5.0, 5.0, 5.0, 1.0),
        (1000.0, np.inf, 1001.0, 1.0),
        (-np.inf, -1000.0, -1001.0, 1.0),
        (-np.inf, np.inf, 0.0, 1.0),
        (np.finfo(np.float32).min, np.finfo(np.float32).max, 0.0, 1.0),
    ],
)
def test_any_bounds_of_a_box_give_a_finite_distribution(low: float, high: float, middle: float, scale: float) -> None:
    head = make_head(spaces.Box(low, high, (1,), np.float32))
    assert (head.centre.item(), head.scale.item()) == (middle, scale)
    parameters = torch.zeros(50, 1)
    action = head.sample(parameters)
    assert head.log_prob(parameters, action).isfinite().all()


@pytest.mark.parametrize(("low", "high"), [(0.0, np.inf), (-np.inf, 0.0), (np.finfo(np.float32).min, np.finfo(np.float32).max)])
def test_sac_refuses_a_range_without_two_bounds(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="no finite bounds"):
        SquashedGaussian(spaces.Box(np.float32(low), np.float32(high), (1,), np.float32))


def test_sac_normalises_a_range_of_one_value() -> None:
    head = SquashedGaussian(spaces.Box(3, 3, (1,), np.float32))
    assert head.normalise(head.sample(torch.zeros(9, 2))).isfinite().all()


def test_bits_are_independent_choices_of_two() -> None:
    head = make_head(spaces.MultiBinary((2, 2)))
    assert head.counts == [2, 2, 2, 2]
    assert head.sample(torch.zeros(5, 8)).shape == (5, 4)

"""Observations of another number type than their space's, and of types that are seldom used."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from hadamem.envs import make_vector
from hadamem.envs.layout import Encoder, first_not_finite


class Giving(gymnasium.Env):
    """Gives `usual`, and `last` at the third and last step."""

    action_space = spaces.Discrete(2)

    def __init__(self, observation_space, usual, last):
        self.observation_space, self.usual, self.last = observation_space, usual, last

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.usual, {}

    def step(self, action):
        self.t += 1
        return self.last if self.t == 3 else self.usual, 0.0, False, self.t == 3, {}


gymnasium.register("Giving-v0", Giving)


def play(space, usual, last):
    env = make_vector("Giving-v0", 2, 0, observation_space=space, usual=usual, last=last)
    rows = [env.reset()]
    for _ in range(3):
        step = env.step(env.random_actions())
        rows.append(step.obs)
    return torch.stack(rows)[:, 0], step.final_obs[0]


def encode(space, observation, single=True):
    encoder = Encoder(space)
    out = np.zeros((1 if single else len(observation), encoder.end), np.float32)
    encoder.write_checked(observation, out, single)
    return out.tolist()


INT8, INT32 = spaces.Box(-128, 127, (2,), np.int8), spaces.Box(-9, 9, (2,), np.int32)
WRAPPING = [
    (INT8, np.array([0, 300]), "obs holds 300, which is not in Box"),
    (INT8, [0, -129], "obs holds -129, which is not in Box"),
    (INT32, np.array([0, 2**31 + 5]), "obs holds 2147483653, which is not in Box"),
    (spaces.Box(0, 255, (2,), np.uint8), np.array([0, 256], np.uint16), "obs holds 256, which is not in Box"),
    (spaces.Box(-9, 9, (2,), np.int64), np.array([0, 2**64 - 1], np.uint64), "obs holds 18446744073709551615, which"),
    (spaces.MultiBinary(2), np.array([0, 256]), r"obs holds 256, which is not in MultiBinary\(2\)"),
    (spaces.MultiDiscrete([3, 4], dtype=np.int8), [0, 257], r"obs holds 257, which is not in MultiDiscrete\(\[3 4\]"),
]


@pytest.mark.parametrize(("space", "value", "message"), WRAPPING, ids=str)
def test_an_integer_that_the_type_of_the_space_cannot_hold_is_named_with_its_place(space, value, message):
    usual = space.sample()
    with pytest.raises(ValueError, match=f"^Giving-v0, environment 0, step 3 of the episode: in the observation, {message}"):
        play(space, usual, value)
    with pytest.raises(ValueError, match=f"^Giving-v0, environment 0, reset: in the observation, {message}"):
        play(space, value, usual)
    with pytest.raises(ValueError, match=f"^{message}"):
        encode(space, value)


def test_an_integer_in_a_nested_observation_is_named_with_its_part():
    space = spaces.Dict(a=spaces.Tuple((spaces.Discrete(2), INT8)))
    with pytest.raises(ValueError, match=r"step 3 of the episode: in the observation, obs\.a\.1 holds 300"):
        play(space, {"a": (0, np.zeros(2, np.int8))}, {"a": (0, np.array([300, 0]))})


@pytest.mark.parametrize("space", [INT8, INT32, spaces.Box(-np.inf, np.inf, (2,), np.float16)], ids=str)
@pytest.mark.parametrize("as_given", [np.array, list], ids=["array", "list"])
def test_wide_integers_that_fit_are_taken(space, as_given):
    rows, final = play(space, as_given([1, -2]), as_given([7, -8]))
    assert rows.tolist() == [[1, -2]] * 4
    assert final.tolist() == [7, -8]
    assert encode(space, as_given([7, -8])) == [[7, -8]]


def test_booleans_are_the_numbers_0_and_1_of_a_discrete():
    assert encode(spaces.Discrete(3), True) == [[0, 1, 0]]
    assert encode(spaces.Discrete(3), np.array([True, False]), single=False) == [[0, 1, 0], [1, 0, 0]]
    assert encode(spaces.Discrete(2, start=1), True) == [[1, 0]]
    assert encode(spaces.MultiDiscrete([2, 2]), np.array([True, False])) == [[0, 1, 1, 0]]


def test_a_multi_discrete_of_uint64_is_encoded_like_any_other():
    space = spaces.MultiDiscrete([3, 4], dtype=np.uint64)
    rows, final = play(space, np.array([2, 1], np.uint64), np.array([0, 3], np.uint64))
    assert rows[0].tolist() == [0, 0, 1, 0, 1, 0, 0]
    assert final.tolist() == [1, 0, 0, 0, 0, 0, 1]


@pytest.mark.filterwarnings("error")
def test_a_float16_that_is_not_finite_is_named_at_once_and_its_largest_is_finite():
    space = spaces.Box(-np.inf, np.inf, (2,), np.float16)
    with pytest.raises(ValueError, match="step 3 of the episode: in the observation, obs holds -inf; it must be a finite"):
        play(space, np.zeros(2, np.float16), np.array([0, -np.inf], np.float16))
    assert first_not_finite(np.array([0, np.nan], np.float16)) == (1,)
    assert first_not_finite(np.array([65504, -65504], np.float16)) is None


def test_a_space_that_would_take_far_too_many_numbers_is_refused():
    message = r"obs.a is Discrete\(1000000000000\), which would take 1,000,000,000,000 numbers, .* with a wrapper"
    with pytest.raises(ValueError, match=message):
        play(spaces.Dict(a=spaces.Discrete(10**12)), {"a": 0}, {"a": 0})

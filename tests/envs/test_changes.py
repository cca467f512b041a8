import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from hadamem.agents.config import TrainConfig
from hadamem.agents.making import make_environment
from hadamem.envs import make_vector
from hadamem.envs.border import notice
from hadamem.envs.changes import Changes
from hadamem.envs.layout import Encoder

HERE = __name__


class Screen(gymnasium.Env):
    """Its picture's colours are 10, 20, 30 times the number of steps in the episode."""

    observation_space = spaces.Box(0, 255, (24, 32, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.draw(), {}

    def step(self, action):
        self.steps += 1
        return self.draw(), 1.0, self.steps == 8, False, {}

    def draw(self):
        return np.full((24, 32, 3), (10, 20, 30), np.uint8) * self.steps


class Parts(gymnasium.Env):
    observation_space = spaces.Dict(
        position=spaces.Box(-1, 1, (2,)), goal=spaces.Dict(colour=spaces.Discrete(3), place=spaces.Box(-1, 1, (1,)))
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return self.observation, {}

    def step(self, action):
        return self.observation, 0.0, False, True, {}

    observation = {"position": np.array([0.1, 0.2], np.float32), "goal": {"colour": 2, "place": np.array([0.3], np.float32)}}  # noqa: RUF012


class Wide(Parts):
    observation_space = spaces.Dict(few=spaces.Box(-1, 1, (2,)), many=spaces.Box(-1, 1, (20_000,)))
    observation = {"few": np.zeros(2, np.float32), "many": np.zeros(20_000, np.float32)}  # noqa: RUF012


class Cube(Screen):
    observation_space = spaces.Box(0, 255, (4, 4, 4), np.uint8)

    def draw(self):
        return np.zeros((4, 4, 4), np.uint8)


class Doubled(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


def not_an_environment(env):
    return "nothing"


def test_wrappers_are_put_around_each_environment_in_their_order():
    config = TrainConfig(env=f"{HERE}:Screen", wrappers=(f"{HERE}:Doubled", "gymnasium.wrappers:FlattenObservation"))
    env = make_environment(config, 2, seed=0)
    assert env.reset().shape == (2, 24 * 32 * 3)
    assert env.step(env.random_actions()).reward.tolist() == [2, 2]


def test_pictures_are_skipped_made_gray_and_resized():
    pytest.importorskip("cv2", reason="hadamem[pictures] is not installed")
    config = TrainConfig(env=f"{HERE}:Screen", frame_skip=4, gray=True, resize=(12, 16))
    env = make_environment(config, 1, seed=0)
    env.reset()
    step = env.step(env.random_actions())
    assert [leaf.shape for leaf in env.layout.leaves] == [(1, 12, 16)]
    assert step.reward.tolist() == [4]
    gray = int(4 * (0.2125 * 10 + 0.7154 * 20 + 0.0721 * 30))  # as GrayscaleObservation weighs the colours
    np.testing.assert_allclose(step.obs.numpy(), gray / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (Changes(wrappers=("Doubled",)), "must be package.module:name"),
        (Changes(wrappers=("no_such_module:Doubled",)), "cannot import 'no_such_module' of the wrapper"),
        (Changes(wrappers=(f"{HERE}:Trebled",)), "no class or function 'Trebled'"),
        (Changes(wrappers=(f"{HERE}:not_an_environment",)), "gave 'nothing'; it must give a gymnasium.Env"),
        (Changes(frame_skip=2), "frame_skip is for pictures"),
        (Changes(gray=True), r"gray is for pictures, bytes of shape \(H, W, 3\)"),
        (Changes(resize=(4, 4)), "resize is for pictures"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_changes_that_cannot_be_made_are_said(changes, said):
    with pytest.raises(ValueError, match=said):
        make_vector("CartPole-v1", 1, seed=0, changes=changes)


def test_a_vector_of_environments_cannot_be_changed():
    vector = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    with pytest.raises(ValueError, match="wrap them before"):
        make_vector(vector, 2, seed=0, changes=Changes(frame_skip=2))


@pytest.mark.parametrize(
    ("observe", "leaves", "row"),
    [
        (("position",), ["obs.position"], [0.1, 0.2]),
        (("goal.colour",), ["obs.goal.colour"], [0, 0, 1]),
        (("position", "goal.place"), ["obs.goal.place", "obs.position"], [0.3, 0.1, 0.2]),
        (("goal",), ["obs.goal.colour", "obs.goal.place"], [0, 0, 1, 0.3]),
    ],
)
def test_the_parts_that_are_asked_for_are_seen(observe, leaves, row):
    env = make_vector(f"{HERE}:Parts", 1, seed=0, observe=observe)
    assert [leaf.name for leaf in env.layout.leaves] == leaves
    np.testing.assert_allclose(env.reset().numpy()[0], row, rtol=1e-6)
    np.testing.assert_allclose(env.step(env.random_actions()).final_obs.numpy()[0], row, rtol=1e-6)


@pytest.mark.parametrize(
    ("id", "observe", "said"),
    [
        (f"{HERE}:Parts", ("goal.size",), "called 'goal.size'; there are position, goal, goal.colour, goal.place"),
        ("CartPole-v1", ("speed",), "called 'speed'; there are none"),
    ],
)
def test_parts_that_are_not_there_are_said(id, observe, said):
    with pytest.raises(ValueError, match=said):
        make_vector(id, 1, seed=0, observe=observe)


def test_an_observation_of_very_many_numbers_is_told_with_what_to_choose(caplog):
    notice.cache_clear()
    make_vector(f"{HERE}:Wide", 1, seed=0)
    assert "obs.many has 20,000 numbers" in caplog.text
    assert "--observe chooses among few, many" in caplog.text


def test_channels_that_the_shape_does_not_tell_are_told_and_can_be_chosen(caplog):
    notice.cache_clear()
    make_vector(f"{HERE}:Cube", 1, seed=0)
    assert "does not tell whether the first or the last axis counts channels" in caplog.text
    picture = np.arange(64, dtype=np.uint8).reshape(1, 4, 4, 4)
    written = {}
    for channels in ("first", "last"):
        encoder = Encoder(Cube.observation_space, channels=channels)
        assert not encoder.unclear
        row = np.zeros((1, 64), np.float32)
        encoder.write(picture, row)
        written[channels] = (row * 255).round().reshape(4, 4, 4)
    np.testing.assert_array_equal(written["first"], picture[0])
    np.testing.assert_array_equal(written["last"], np.moveaxis(picture[0], -1, 0))


@pytest.mark.parametrize(
    ("space", "scale", "taken_for"),
    [
        (spaces.Box(0, 255, (32, 32, 3), np.uint8), 255, "screen"),
        (spaces.Box(0, 255, (7, 7, 3), np.uint8), 255, "codes"),
        (spaces.Box(0, 10, (32, 32, 3), np.uint8), 1, "codes"),
        (spaces.Box(0, 1, (7, 7, 3), np.float32), 1, "measured"),
        (spaces.Box(0, 1, (32, 32, 3), np.uint8), 1, "screen"),
        (spaces.Box(0, 255, (32, 32, 3), np.float32), 255, "screen"),
        (spaces.Box(0, 1, (32, 32, 3), np.float32), 1, "screen"),
    ],
    ids=str,
)
def test_the_bounds_of_a_picture_say_its_scale(space, scale, taken_for):
    encoder = Encoder(space)
    (leaf,) = encoder.leaves
    row = np.zeros((1, leaf.size), np.float32)
    encoder.write(np.full((1, *space.shape), space.high.max(), space.dtype), row)
    np.testing.assert_allclose(row, space.high.max() / scale)
    assert (leaf.measured, leaf.codes) == (taken_for == "measured", taken_for == "codes")
    assert leaf.unit == (None if space.dtype == np.float32 else pytest.approx(1 / scale))


@pytest.mark.parametrize("wrapper", ["gymnasium.wrappers:TimeLimit", "math:sin"])
def test_a_wrapper_that_needs_more_than_the_environment_is_named(wrapper):
    with pytest.raises(ValueError, match=f"wrapper {wrapper} cannot be called with the environment alone"):
        make_vector("CartPole-v1", num_envs=1, seed=0, changes=Changes((wrapper,)))


class NoEnvironment:
    pass


def test_a_class_that_is_no_environment_is_refused():
    with pytest.raises(ValueError, match=r"NoEnvironment cannot be made: .* must inherit from the gymnasium.Env"):
        make_vector(NoEnvironment, num_envs=1, seed=0)


def test_a_name_that_its_module_does_not_have_is_told():
    with pytest.raises(ValueError, match=f"{HERE} has no class or function Zebra9, and registers no environment of that name"):
        make_vector(f"{HERE}:Zebra9", num_envs=1, seed=0)

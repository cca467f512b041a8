import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from hadamem.envs import MaskVelocity, RepeatTrials


class Count(gymnasium.Env):
    """Shows the step; pays 1 a step; ends after 3 steps, by truncation; a success if the last action was 1."""

    observation_space = gymnasium.spaces.Box(0, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t, np.float32), 1.0, False, self.t == 3, {"success": bool(action)} if self.t == 3 else {}


@pytest.mark.parametrize(
    ("id", "kept"),
    [
        ("CartPole-v1", [0, 2]),
        ("Pendulum-v1", [0, 1]),
        ("MountainCar-v0", [0]),
        ("Acrobot-v1", [0, 1, 2, 3]),
        ("LunarLander-v3", [0, 1, 4, 6, 7]),
    ],
)
def test_mask_velocity(id, kept):
    if "Lander" in id:
        pytest.importorskip("Box2D", reason="LunarLander needs Box2D")
    whole, masked = gymnasium.make(id), MaskVelocity(gymnasium.make(id))
    np.testing.assert_array_equal(masked.reset(seed=0)[0], whole.reset(seed=0)[0][kept])
    action = whole.action_space.sample()
    np.testing.assert_array_equal(masked.step(action)[0], whole.step(action)[0][kept])
    np.testing.assert_array_equal(masked.observation_space.high, whole.observation_space.high[kept])
    assert masked.observation_space.contains(masked.reset()[0])


def test_a_masked_environment_is_made_again_from_its_spec():
    env = MaskVelocity(gymnasium.make("CartPole-v1"), indices=iter([0]))
    again = gymnasium.make(env.spec)
    np.testing.assert_array_equal(again.reset(seed=0)[0], env.reset(seed=0)[0])
    assert again.spec == env.spec


def test_mask_given_entries():
    env = MaskVelocity(gymnasium.make("CartPole-v1"), indices=[0])
    assert env.observation_space.shape == (3,)
    with pytest.raises(ValueError, match=r"indices are \[4\]; they must be some, not all, of 0 to 3"):
        MaskVelocity(gymnasium.make("CartPole-v1"), indices=[4])
    with pytest.raises(ValueError, match="not known for Wind: give indices"):
        MaskVelocity(gymnasium.make("hadamem/Wind-v0"))
    with pytest.raises(ValueError, match="Box of one axis"):
        MaskVelocity(gymnasium.make("hadamem/VisualMatch-v0"), indices=[0])


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
def test_trials_follow_each_other_and_the_flag_says_so():
    env = RepeatTrials(Count(), trials=2)
    observation, _ = env.reset(seed=0)
    assert observation.tolist() == [0, 0]
    steps = [env.step(action) for action in (0, 0, 1, 0, 0, 0)]
    assert [step[0].tolist() for step in steps] == [[1, 0], [2, 0], [0, 1], [1, 0], [2, 0], [3, 1]]
    assert [step[2:4] for step in steps] == [(False, False)] * 5 + [(False, True)]
    assert not any("success" in step[4] for step in steps[:-1])
    assert steps[-1][4]["success"] is True
    assert steps[-1][4]["inner_returns"].tolist() == [3, 3]
    check_env(RepeatTrials(Count()), skip_render_check=True)


def test_trials_keep_the_task():
    env = RepeatTrials(gymnasium.make("hadamem/Wind-v0", horizon=3), trials=4)
    for seed in range(5):
        _, info = env.reset(seed=seed)
        tasks = {info["task"]}
        for t in range(12):
            *_, truncated, info = env.step(np.zeros(2, np.float32))
            tasks.add(info["task"])
            assert truncated == (t == 11)
        assert len(tasks) == 1
    with pytest.raises(ValueError, match="trials is 0"):
        RepeatTrials(Count(), trials=0)

"""What comes from an environment is copied and checked, and its errors are shown as its own."""

import sys
import traceback

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from hadamem.envs import EnvironmentFailedError, Episode, make_vector
from hadamem.envs.border import Environments


class Scripted(gymnasium.Env):
    """Gives a value of its space and a reward of 1; `faults` says what else to give from step `at` on, or what to do there."""

    def __init__(self, observation_space=None, action_space=None, at=2, length=5, **faults):
        self.observation_space = observation_space or spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = action_space or spaces.Discrete(2)
        self.observation_space.seed(0)
        self.usual = self.observation_space.sample()
        self.at, self.length, self.faults = at, length, faults

    def give(self, name, value):
        value = self.faults[name] if name in self.faults and self.t >= self.at else value
        return value(self) if callable(value) else value

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.give("observation", self.usual), self.give("info", {})

    def step(self, action):
        self.t += 1
        if "action" in self.faults:
            self.faults["action"](action)
        over = self.t == self.length
        given = (
            self.give("observation", self.usual),
            self.give("reward", 1.0),
            self.give("terminated", over),
            self.give("truncated", False),
            self.give("info", {}),
        )
        return self.give("result", given)


gymnasium.register("Scripted-v0", Scripted)


def play(steps=12, num_envs=2, **options):
    env = make_vector("Scripted-v0", num_envs, 0, **options)
    env.reset()
    return [env.step(env.random_actions()) for _ in range(steps)]


@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (spaces.Discrete(4), -1, r"obs holds -1, which is not in Discrete\(4\)"),
        (spaces.Discrete(4), 4, r"obs holds 4, which is not in Discrete\(4\)"),
        (spaces.Discrete(4, start=1), 0, r"obs holds 0, which is not in Discrete\(4, start=1\)"),
        (spaces.MultiDiscrete([3, 3]), np.array([3, 0]), r"obs holds 3, which is not in MultiDiscrete\(\[3 3\]\)"),
        (spaces.MultiDiscrete([[2], [3]]), np.array([[1], [-1]]), r"obs holds -1, which is not in MultiDiscrete"),
        (spaces.MultiBinary(3), np.array([0, 1, 2], np.int8), r"obs holds 2, which is not in MultiBinary\(3\)"),
        (spaces.MultiBinary((1, 2)), np.array([[0, -1]], np.int8), r"obs holds -1, which is not in MultiBinary"),
        (spaces.Box(-9, 9, (2,), np.float32), np.float32([0, np.nan]), "obs holds nan; it must be a finite float32"),
        (spaces.Box(-9, 9, (2,), np.float64), np.float64([-1e200, 0]), r"obs holds -1e\+200; it must be a finite"),
        (spaces.Box(0, 1, (4, 4, 3), np.float32), np.full((4, 4, 3), np.inf, np.float32), "obs holds inf"),
        (spaces.Box(-1, 1, (2,), np.float32), np.zeros(3, np.float32), r"obs has shape \(3,\), but its space is Box"),
        (spaces.Box(-1, 1, (2,), np.float32), np.zeros(1, np.float32), r"obs has shape \(1,\)"),
        (spaces.Box(-1, 1, (2,), np.float32), None, r"obs has shape \(\), but its space is Box"),
        (spaces.Discrete(4), 1.5, r"obs is float64, but its space is Discrete\(4\)"),
        (spaces.Dict(a=spaces.Discrete(2), b=spaces.Discrete(2)), {"a": 0}, "obs has no 'b': it is {'a': 0}"),
        (spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2))), (0, 2), "obs.1 holds 2"),
    ],
    ids=str,
)
@pytest.mark.parametrize("at", [0, 2, 5], ids=["first", "middle", "last"])
def test_an_observation_outside_its_space_is_named_with_its_place(space, value, message, at):
    when = f"step {at} of the episode" if at else "reset"
    with pytest.raises(ValueError, match=rf"^Scripted-v0, environment 0, {when}: in the observation, {message}"):
        play(observation_space=space, observation=lambda env: value, at=at, length=9, truncated=lambda env: env.t == 5)


def test_the_environment_and_the_step_that_are_named_are_those_of_the_fault():
    numbers = iter(range(100))

    def observe(env):
        env.number = getattr(env, "number", None) or next(numbers)
        return np.float32([np.nan if (env.number, env.t) == (2, 3) else 0, 0])

    with pytest.raises(ValueError, match="environment 2, step 3 of the episode: in the observation, obs holds nan"):
        play(num_envs=4, observation=observe, at=0)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"reward": np.nan}, "reward is nan; it must be a finite float32"),
        ({"reward": -np.inf}, "reward is -inf"),
        ({"reward": 1e39}, r"reward is 1e\+39"),
        ({"reward": None}, "reward must be one number, not None"),
        ({"reward": np.ones(1)}, r"reward must be one number, not array of shape \(1,\)"),
        ({"reward": "1"}, "reward must be one number, not '1'"),
        ({"reward": torch.ones((), requires_grad=True)}, r"reward must be one number, not tensor\(1"),
        ({"terminated": "no"}, "terminated must be True or False, not 'no'"),
        ({"truncated": np.zeros(2, bool)}, r"truncated must be True or False, not array of shape \(2,\)"),
        (
            {"result": lambda env: (env.usual, 1.0, False, {})},
            r"step\(\) must return observation, reward, terminated, .* not \(",
        ),
    ],
)
def test_anything_else_that_is_wrong_is_named_with_its_place(fault, message):
    with pytest.raises(ValueError, match=f"^Scripted-v0, environment 0, step 2 of the episode: {message}"):
        play(**fault)


def test_numpy_and_integer_flags_and_rewards_are_taken():
    steps = play(
        5, at=0, reward=lambda env: np.float32(2), terminated=lambda env: np.bool_(False), truncated=lambda env: int(env.t == 5)
    )
    assert [step.truncated.tolist() for step in steps] == [[False] * 2] * 4 + [[True] * 2]
    assert steps[4].episodes == [Episode(10.0, 5, None)] * 2


@pytest.mark.parametrize(
    ("space", "actions", "columns"),
    [
        (spaces.Box(-1, 1, (2,), np.float32), [[0.5, -0.5]], [0.5, -0.5]),
        (spaces.MultiDiscrete([3, 4]), [[0, 0]], [1, 0, 0, 1, 0, 0, 0]),
    ],
    ids=str,
)
def test_an_environment_may_work_on_its_action_in_place(space, actions, columns):
    def work(action):
        action -= 1

    env = make_vector("Scripted-v0", 1, 0, ["action"], action_space=space, action=work)
    env.reset()
    actions = torch.tensor(actions)
    assert env.step(actions).obs[0].tolist() == columns
    assert actions[0, 0] != -1


ODD = [
    None,
    "text",
    {"at_goal": "yes", "success": "no", "inner_returns": "none"},
    {"at_goal": None, "success": None, "is_success": np.nan, "inner_returns": [[1], [1, 2]]},
    {"x": {"y": 1}, "final_obs": 3, "_at_goal": 1, "final_info": None, "episode": {"r": object()}},
]


@pytest.mark.parametrize("odd", [*ODD, lambda env: {"grows": [0] * env.t, "turns": None if env.t % 2 else "a"}])
def test_an_info_may_hold_anything(odd):
    steps = play(5, at=0, info=odd)
    assert steps[4].episodes == [Episode(5.0, 5, None)] * 2
    assert not any(step.at_goal.any() for step in steps)


def test_what_is_read_of_an_info():
    def tell(env):
        return {"at_goal": env.t == 3, "is_success": np.array(True), "inner_returns": [1, 2]}

    steps = play(5, at=0, info=tell)
    assert [step.at_goal.tolist() for step in steps] == [[t == 3] * 2 for t in range(1, 6)]
    assert steps[4].episodes == [Episode(5.0, 5, True, (1.0, 2.0))] * 2


def fail(env):
    raise ValueError("lost the simulator")


def test_an_exception_of_an_environment_is_its_own_with_its_own_traceback():
    with pytest.raises(EnvironmentFailedError) as caught:
        play(reward=fail)
    assert str(caught.value) == (
        "Scripted-v0, environment 0, step 2 of the episode: the environment's own code raised ValueError: lost the simulator"
    )
    cause = caught.value.__cause__
    assert type(cause) is ValueError
    assert [frame.name for frame in traceback.extract_tb(cause.__traceback__)] == ["step", "give", "fail"]


def test_an_exception_while_an_environment_is_made_is_its_own():
    def make(broken=False, **options):
        return len(3) if broken else Scripted(**options)

    gymnasium.register("Made-v0", make)
    with pytest.raises(EnvironmentFailedError, match=r"environment 0, when it was made: .* TypeError: object of type 'int'"):
        make_vector("Made-v0", 1, 0, broken=True)
    with pytest.raises(ValueError, match=r"CartPole-v1 cannot be made with \{'wrong': 1\}: .*unexpected keyword argument"):
        make_vector("CartPole-v1", 1, 0, wrong=1)


def test_an_exception_in_the_module_of_an_environment_is_its_own(tmp_path, monkeypatch):
    (tmp_path / "broken_envs.py").write_text("raise ValueError('no configuration')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvironmentFailedError, match=r"^importing 'broken_envs': .* ValueError: no configuration") as caught:
        make_vector("broken_envs:Any-v0", 1, 0)
    frames = traceback.extract_tb(caught.value.__cause__.__traceback__)
    assert [frame.filename for frame in frames] == [str(tmp_path / "broken_envs.py")]


def test_an_error_of_our_own_environments_stays_what_it_is():
    with pytest.raises(ValueError, match=r"^variant is 'none'") as caught:
        make_vector("hadamem/Wind-v0", 1, 0, batched=False, variant="none")
    assert type(caught.value) is ValueError


def test_environments_of_different_spaces_are_refused():
    widths = iter([2, 2, 3])
    gymnasium.register("Differ-v0", lambda: Scripted(spaces.Box(-1, 1, (next(widths),))))
    with pytest.raises(ValueError, match=r"environment 2 has the observation_space Box\(.*\(3,\), .*but environment 0 has Box"):
        make_vector("Differ-v0", 3, 0)


def test_a_limit_of_steps_truncates_episodes():
    env = Environments("Scripted-v0", 2, lambda: Scripted(length=100))
    env.cut_after(3)
    env.reset(seed=0)
    cut = [env.step(np.zeros(2, np.int64))[3].tolist() for _ in range(6)]
    assert cut == [[False] * 2, [False] * 2, [True] * 2] * 2


@pytest.mark.parametrize("workers", [0, 1])
def test_an_environment_that_exits_is_an_error(workers):
    env = make_vector(lambda: Scripted(observation=lambda _: sys.exit(0)), num_envs=2, seed=0, workers=workers)
    env.reset()
    env.step(env.random_actions())
    with pytest.raises(EnvironmentFailedError, match=r"environment 0, step 2 of the episode: .* raised SystemExit: 0"):
        env.step(env.random_actions())
    env.close()

import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from hadamem.envs import Episode, list_tasks, make_vector
from hadamem.envs.tasks import Task
from hadamem.envs.worlds import WORLDS

ALL = ("obs", "action", "reward")


class Counter(gymnasium.Env):
    """Shows the step number t, pays t, and ends after `length` steps. Its observation is always the same array."""

    action_space = spaces.Discrete(3, start=10)

    def __init__(self, length=3, truncate=False, both=False, success=None, image=False):
        self.length, self.truncate, self.both, self.success = length, truncate, both, success
        high, shape, dtype = (255, (6, 5, 3), np.uint8) if image else (np.inf, (1,), np.float32)
        self.observation_space = spaces.Box(0, high, shape, dtype)
        self.shown = np.zeros(shape, dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.shown[:] = 0
        return self.shown, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        self.shown[:] = self.t
        over = self.t == self.length
        info = {"success": self.success} if over and self.success is not None else {}
        return self.shown, float(self.t), over and not self.truncate, over and (self.truncate or self.both), info


gymnasium.register("Counter-v0", Counter)


def test_start_is_true_on_first_observations_only():
    env = make_vector("Counter-v0", 2, 0, length=3)
    assert env.reset().tolist() == [[0], [0]]
    assert env.start.tolist() == [True, True]
    seen = []
    for _ in range(6):
        step = env.step(torch.zeros(2, dtype=torch.long))
        assert (env.start == step.start.numpy()).all()
        seen.append((step.obs[0].item(), step.start[0].item(), step.terminated[0].item(), step.reward[0].item()))
    assert seen == [(1, False, False, 1), (2, False, False, 2), (0, True, True, 3)] * 2
    env.step(torch.zeros(2, dtype=torch.long))
    env.reset()
    assert env.start.all()


def test_a_truncated_step_keeps_the_last_observation_and_its_inputs():
    env = make_vector("Counter-v0", 2, 0, ALL, length=2, truncate=True)
    assert env.reset().tolist() == [[0, 0, 0, 0, 0]] * 2
    step = env.step(torch.tensor([1, 2]))
    assert step.final_obs is None
    assert step.obs.tolist() == [[1, 0, 1, 0, 1], [1, 0, 0, 1, 1]]
    step = env.step(torch.tensor([0, 1]))
    assert (step.truncated.tolist(), step.terminated.tolist()) == ([True, True], [False, False])
    assert step.final_obs.tolist() == [[2, 1, 0, 0, 2], [2, 0, 1, 0, 2]]
    assert step.obs.tolist() == [[0] * 5] * 2


def test_a_terminated_step_is_not_truncated():
    env = make_vector("Counter-v0", 1, 0, length=1, both=True)
    env.reset()
    step = env.step(torch.tensor([0]))
    assert (step.terminated.item(), step.truncated.item(), step.final_obs) == (True, False, None)


@pytest.mark.parametrize(("id", "cut"), [("CartPole-v1", 7), ("Pendulum-v1", 4)])
def test_time_limits_equal_single_environments(id, cut):
    env = make_vector(id, 3, 20, max_episode_steps=cut)
    singles = [gymnasium.make(id, max_episode_steps=cut) for _ in range(3)]
    first = [single.reset(seed=20 + i)[0] for i, single in enumerate(singles)]
    np.testing.assert_array_equal(env.reset(), first)
    cuts = 0
    for _ in range(3 * cut):
        actions = env.random_actions()
        step = env.step(actions)
        for i, single in enumerate(singles):
            obs, reward, terminated, truncated, _ = single.step(actions[i].numpy())
            assert step.reward[i] == np.float32(reward)
            assert (step.terminated[i], step.truncated[i]) == (terminated, truncated)
            if truncated:
                cuts += 1
                np.testing.assert_array_equal(step.final_obs[i], obs)
            elif step.final_obs is not None:
                assert not step.final_obs[i].any()
            if terminated or truncated:
                obs, _ = single.reset()
            np.testing.assert_array_equal(step.obs[i], obs)
    assert cuts >= 3


def test_tensors_are_new_at_every_step():
    env = make_vector("popgym-RepeatPreviousEasy-v0", 4, 0)
    kept = [env.reset(), *(env.step(env.random_actions()).obs for _ in range(3))]
    copies = [obs.clone() for obs in kept]
    for _ in range(5):
        step = env.step(env.random_actions())
        step.start.fill_(True)  # what a caller does to its tensors stays its own affair
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))
    assert not env.start.any()


@pytest.mark.parametrize("success", [None, True, False])
def test_finished_episodes_tell_return_length_and_success(success):
    env = make_vector("Counter-v0", 2, 0, length=3, success=success)
    env.reset()
    env.step(env.random_actions())
    env.reset()  # what was not finished does not count
    finished = [env.step(env.random_actions()).episodes for _ in range(6)]
    assert finished == [[], [], [Episode(6.0, 3, success)] * 2] * 2


def test_shapes_and_types():
    env = make_vector("Pendulum-v1", 2, 0, ALL, max_episode_steps=2)
    assert env.reset().shape == (2, 5)
    for _ in range(2):
        step = env.step(torch.full((2, 1), 5.0))
    assert step.final_obs[:, 3].tolist() == [2.0, 2.0]  # the action as it was carried out: clipped
    assert step.final_obs[:, 4].tolist() == step.reward.tolist()
    for tensor in (step.obs, step.reward, step.final_obs):
        assert tensor.dtype == torch.float32
    for tensor in (step.terminated, step.truncated, step.start):
        assert (tensor.dtype, tensor.shape) == (torch.bool, (2,))


def test_images():
    env = make_vector("Counter-v0", 2, 0, ("obs", "reward"), image=True, truncate=True)
    assert [(leaf.name, leaf.kind, leaf.shape, leaf.offset) for leaf in env.layout.leaves] == [
        ("obs", "image", (3, 6, 5), 0),
        ("reward", "vector", (1,), 90),
    ]
    assert env.layout.size == 91
    env.reset()
    steps = [env.step(env.random_actions()) for _ in range(3)]
    torch.testing.assert_close(steps[1].obs[:, :90], torch.full((2, 90), 2 / 255))
    torch.testing.assert_close(steps[2].final_obs[:, :90], torch.full((2, 90), 3 / 255))


def test_car_racing():
    pytest.importorskip("Box2D", reason="CarRacing needs Box2D")
    pytest.importorskip("pygame", reason="CarRacing draws with pygame")
    env = make_vector("CarRacing-v3", 1, 0)
    env.reset()
    step = env.step(env.random_actions())
    assert [leaf.shape for leaf in env.layout.images] == [(3, 96, 96)]
    assert 0.05 < step.obs.mean() < 0.95
    env.close()


@pytest.mark.parametrize(
    ("id", "inputs", "names"),
    [
        ("popgym-RepeatPreviousEasy-v0", None, ["obs"]),
        ("popgym-BattleshipEasy-v0", None, ["obs", "action"]),
        ("popgym-MultiarmedBanditEasy-v0", None, ["obs", "action"]),
        ("popgym-BattleshipEasy-v0", ("obs",), ["obs"]),
        ("popgym-AutoencodeEasy-v0", ("reward", "action", "obs"), ["obs.0", "obs.1", "action", "reward"]),
        ("CartPole-v1", ("reward", "action"), ["action", "reward"]),
    ],
)
def test_inputs(id, inputs, names):
    env = make_vector(id, 1, 0, inputs)
    assert [leaf.name for leaf in env.layout.leaves] == names
    assert env.reset().shape == (1, env.layout.size)
    assert env.step(env.random_actions()).obs.shape == (1, env.layout.size)


def test_third_party_id(tmp_path, monkeypatch):
    (tmp_path / "somebodys_envs.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gymnasium.register('Somebodys-v3', CartPoleEnv, max_episode_steps=9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    env = make_vector("somebodys_envs:Somebodys-v3", 2, 0)
    assert env.id == "somebodys_envs:Somebodys-v3"
    assert env.reset().shape == (2, 4)


def test_an_id_of_an_installed_package_is_found_without_its_module(tmp_path, monkeypatch):
    code = (
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gymnasium.register('Labyrinths-Small-v0', CartPoleEnv)\n"
    )
    install(tmp_path, "labyrinths", "gymnasium>=1", code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(gymnasium.registry, "Labyrinths-Small-v0", raising=False)
    monkeypatch.delitem(sys.modules, "labyrinths", raising=False)
    assert make_vector("Labyrinths-Small-v0", 2, 0).reset().shape == (2, 4)
    for typed in ("Labyrinths-Smal-v0", "labyrinths:Labyrinths-Smal-v0"):
        with pytest.raises(ValueError, match="did you mean labyrinths:Labyrinths-Small-v0"):
            make_vector(typed, 2, 0)


def install(folder, name, requires, code):
    """A package of one module, as pip would have installed it."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: {requires}\n")
    (folder / f"{name}.py").write_text(code)


def test_a_package_for_which_gymnasium_is_an_extra_is_found_by_ids_that_begin_like_it(tmp_path, monkeypatch):
    code = "import gymnasium\nfrom gymnasium.envs.classic_control import CartPoleEnv\ngymnasium.register('{}', CartPoleEnv)\n"
    install(tmp_path, "optio", "gymnasium>=1 ; extra == 'play'", code.format("OPT/Pole-v5"))
    install(tmp_path, "heavy", "gymnasium>=1 ; extra == 'rl'", "raise SystemExit('nobody asked for it')")
    monkeypatch.syspath_prepend(tmp_path)
    assert make_vector("OPT/Pole-v5", 2, 0).reset().shape == (2, 4)


def test_a_package_that_cannot_be_imported_is_named_with_the_reason(tmp_path, monkeypatch):
    install(tmp_path, "dioramas", "gymnasium>=1", "raise OSError('cannot connect to a display\\nand more')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("hadamem.envs.tasks._FAILED", {})
    with pytest.raises(
        ValueError, match=r"Room-v0', or .* cannot be imported: dioramas \(OSError: cannot connect to a display\);"
    ):
        make_vector("Dioramas-Room-v0", 1, 0)


def test_the_package_that_is_known_to_have_an_id_is_imported_first(tmp_path, monkeypatch):
    code = (
        "import gymnasium\nfrom gymnasium.envs.classic_control import CartPoleEnv\ngymnasium.register('Zork-v0', CartPoleEnv)\n"
    )
    install(tmp_path, "zork", "gymnasium>=1", "raise SystemExit('it is only named like it')")
    install(tmp_path, "adventures", "gymnasium>=1", code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("hadamem.envs.tasks._PACKAGES", {"zork": "adventures"})
    assert make_vector("Zork-v0", 1, 0).reset().shape == (1, 4)


def test_the_package_that_a_well_known_id_comes_with_is_named(monkeypatch):
    monkeypatch.setattr("hadamem.envs.tasks._has_package", lambda name: False)
    with pytest.raises(ValueError, match=r"'NetHackNothing-v0'; such names come with .* not installed: pip install nle"):
        make_vector("NetHackNothing-v0", 1, 0)
    monkeypatch.setattr("hadamem.envs.tasks._has_package", lambda name: True)
    with pytest.raises(ValueError, match=r"'NetHackNothing-v0'; (did you mean|hadamem\.envs\.list_tasks)"):
        make_vector("NetHackNothing-v0", 1, 0)


class Told(Counter):
    """Beside the counter, a text."""

    def __init__(self, only_text=False):
        super().__init__()
        self.only_text = only_text
        parts = {} if only_text else {"counter": self.observation_space}
        self.observation_space = spaces.Dict(mission=spaces.Text(20), **parts)

    def reset(self, *, seed=None, options=None):
        shown, info = super().reset(seed=seed)
        return {"mission": "count", "counter": shown}, info

    def step(self, action):
        shown, *rest = super().step(action)
        return {"mission": "count on", "counter": shown}, *rest


gymnasium.register("Told-v0", Told)


def test_a_text_beside_numbers_is_left_out_with_a_notice(caplog):
    env = make_vector("Told-v0", 2, 0)
    assert [record.getMessage() for record in caplog.records] == [
        "Told-v0: left out of the observation, because their width is not fixed: obs.mission (Text)"
    ]
    assert env.reset().tolist() == [[0], [0]]
    assert env.step(env.random_actions()).obs.tolist() == [[1], [1]]


def test_a_text_alone_is_refused():
    with pytest.raises(ValueError, match=r"obs\.mission is a Text space, which has no fixed width"):
        make_vector("Told-v0", 1, 0, only_text=True)


def test_missing_dependency_of_a_third_party_module_speaks_for_itself(tmp_path, monkeypatch):
    (tmp_path / "needy_envs.py").write_text("import not_installed_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_at_all"):
        make_vector("needy_envs:Needy-v0", 1, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("popgym-RepeatPrevousEasy-v0", 1, 0), "'popgym-RepeatPrevousEasy-v0'; did you mean popgym-RepeatPreviousE"),
        (("repeatpreviouseasy", 1, 0), "did you mean popgym-RepeatPreviousEasy-v0"),
        (("CartPole-v9", 1, 0), "'CartPole-v9'; did you mean CartPole-v1"),
        (("no_such_package.envs:A-v0", 1, 0), "cannot import 'no_such_package.envs'"),
        ((":CartPole-v1", 1, 0), "'' in ':CartPole-v1' is not the name of a module"),
        (("CartPole-v1", 0, 0), "num_envs is 0, but must be at least 1"),
        (("CartPole-v1", 1, -4), "seed is -4, but must not be negative"),
        (("CartPole-v1", 1, 0, ("obs", "state")), r"\['obs', 'state'\], but must be some of \['obs', 'action', 'rew"),
        (("CartPole-v1", 1, 0, ()), r"inputs are \[\]"),
    ],
)
def test_wrong_arguments_are_named_with_the_right_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_vector(*arguments)


def test_wrong_steps():
    env = make_vector("CartPole-v1", 2, 0)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\) on CartPole-v1"):
        env.step(torch.tensor([0, 1]))
    env.reset()
    with pytest.raises(ValueError, match=r"shape \(3,\), but there are 2 environments"):
        env.step(torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match=r"contain 2, .* integers from 0 to 1"):
        env.step(torch.tensor([0, 2]))


def test_seeds():
    def play(seed):
        env = make_vector("popgym-ConcentrationEasy-v0", 2, seed)
        return torch.stack([env.reset(), *(env.step(env.random_actions()).obs for _ in range(5)), env.reset()])

    assert torch.equal(play(3), play(3))
    assert not torch.equal(play(3), play(4))
    assert not torch.equal(play(3)[:, 0], play(3)[:, 1])


def test_a_second_reset_begins_other_episodes():
    env = make_vector("popgym-RepeatPreviousEasy-v0", 64, 0)
    assert not torch.equal(env.reset(), env.reset())


@pytest.mark.parametrize("id", ["Pendulum-v1", "Counter-v0", "popgym-BattleshipEasy-v0"])
def test_random_actions_are_of_the_agents_kind(id):
    env = make_vector(id, 200, 0)
    actions = env.random_actions()
    if id == "Pendulum-v1":
        assert (actions.dtype, actions.shape) == (torch.float32, (200, 1))
        assert actions.min() < -1.5
        assert actions.max() > 1.5
    else:
        assert actions.dtype == torch.int64
        assert actions.unique().tolist() == list(range(3 if id == "Counter-v0" else 8))
    assert not torch.equal(actions, env.random_actions())
    assert not torch.equal(actions, make_vector(id, 200, 1).random_actions())


def test_states_that_cannot_be_saved_or_do_not_fit():
    generic = make_vector("CartPole-v1", 2, 0)
    generic.reset()
    assert generic.state_dict() is None
    easy = make_vector("popgym-BattleshipEasy-v0", 2, 0)
    assert easy.state_dict() is None  # there is nothing to save before the first reset
    easy.reset()
    with pytest.raises(ValueError, match="CartPole-v1 cannot be put into a saved state"):
        generic.load_state_dict(easy.state_dict())
    with pytest.raises(ValueError, match=r"is of .*BattleshipEasy-v0', 2, 18\), but these are .*Easy-v0', 3, 18\)"):
        make_vector("popgym-BattleshipEasy-v0", 3, 0).load_state_dict(easy.state_dict())
    repeat = make_vector("popgym-RepeatPreviousEasy-v0", 2, 0)
    repeat.reset()
    with pytest.raises(ValueError, match=r"is of .*PreviousEasy-v0', 2, 4\), but these are .*PreviousHard-v0', 2, 4\)"):
        make_vector("popgym-RepeatPreviousHard-v0", 2, 0).load_state_dict(repeat.state_dict())


def test_list_tasks_names_what_can_be_made():
    rows = {row.name: row for row in list_tasks()}
    assert rows["popgym-AutoencodeHard-v0"] == Task(
        "popgym-AutoencodeHard-v0", "Tuple(Discrete(2), Discrete(4))", "Discrete(4)", 311, "popgym", batched=True
    )
    assert rows["CartPole-v1"].max_steps == 500
    assert not rows["CartPole-v1"].batched
    assert not {"CartPole-v0", "Ant-v2", "GymV26Environment-v0"} & set(rows)  # old, or only there to raise an error
    assert sum(row.batched for row in rows.values()) == 12 + len(WORLDS)
    assert sum(row.source == "popgym" for row in rows.values()) >= 42
    for name, row in rows.items():
        if row.source == "popgym" or name in ("CartPole-v1", "Taxi-v4", "Blackjack-v1"):
            env = make_vector(name, 1, 0, batched=False)
            env.reset(), env.step(env.random_actions())


def test_minigrid_without_its_prefix_and_without_its_text():
    pytest.importorskip("minigrid", reason="a package of environments that registers its ids on import")
    env = make_vector("MiniGrid-MemoryS7-v0", 2, 0)
    assert {leaf.name for leaf in env.layout.leaves} == {"obs.direction", "obs.image"}
    assert env.reset().shape == (2, 4 + 7 * 7 * 3)
    env.step(env.random_actions())

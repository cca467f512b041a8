"""Acting outside of an environment: the same actions as in an evaluation, whatever the spaces."""

from __future__ import annotations

import json
import pathlib
import threading
from typing import Any

import numpy as np
import pytest
import torch
from games import GAMES, LENGTH, Clipped, Game, MaskInside, Nested, Pictures, batched

import hadamem
from hadamem.agents.config import seed_for
from hadamem.agents.training import evaluate_task
from hadamem.cli.main import run_command
from hadamem.deploy.packed import read_packed
from hadamem.envs import make_vector
from hadamem.run import read_checkpoint

SMALL: dict[str, Any] = {"num_envs": 2, "num_steps": 8, "minibatches": 1, "epochs": 1, "threads": 1}


def trained(game: type[Game], path: pathlib.Path, memory: str = "shm", **more: Any) -> hadamem.PPO:
    """With weights that are far enough from the first ones for actions to depend on everything."""
    torch.manual_seed(0)
    agent = hadamem.PPO(memory, game, memory_size=4, embed_size=16, hidden_size=16, **SMALL, **more)
    agent.learn(16, out=path)
    checkpoint = read_checkpoint(path)
    for name, weight in checkpoint["agent"]["policy"].items():
        if weight.dtype == torch.float32 and "bias" not in name:
            weight += torch.randn_like(weight) * 0.3
    torch.save(checkpoint, path / "checkpoint.pt")
    return hadamem.load(path)  # type: ignore[return-value]


def play(agent: Any, game: type[Game], seed: int, episodes: int, **how: Any) -> list[Any]:
    """The actions of an agent in an environment that it does not know of."""
    torch.manual_seed(seed)
    env, begin = game(), len(Game.played)
    for i in range(episodes):
        observation, info = env.reset(seed=seed if i == 0 else None)
        agent.reset()
        end, told = False, how
        while not end:
            mask = env.action_masks() if isinstance(env, Nested) else info.get("action_mask")
            action = agent.act(observation, mask=mask, **told)
            observation, reward, end, _, info = env.step(action)
            if agent.config.inputs:
                told = {**how, "reward": reward}
    return Game.played[begin:]


def same(actions: Any, others: Any) -> bool:
    if isinstance(actions, dict):
        return all(same(actions[key], others[key]) for key in actions)
    return np.allclose(actions, others, atol=1e-4)


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("game", GAMES)
def test_it_acts_as_in_an_evaluation(game: type[Game], greedy: bool, tmp_path: pathlib.Path) -> None:
    inputs = None if game is Game else ("obs", "action", "reward")
    agent = trained(game, tmp_path / "run", inputs=inputs)
    seed, begin = seed_for(1, "evaluation"), len(Game.played)
    evaluate_task(agent.config, agent._read().policy, seed, 3, num_envs=1, greedy=greedy)
    wanted = Game.played[begin:]
    assert len(wanted) == 3 * LENGTH
    got = play(agent, game, seed, 3, greedy=greedy)
    assert all(map(same, got, wanted))
    assert len(got) == len(wanted)
    assert not all(same(action, wanted[0]) for action in wanted)  # it is not always the same one


@pytest.mark.parametrize("game", GAMES)
def test_a_batch_is_its_rows(game: type[Game], tmp_path: pathlib.Path) -> None:
    agent = trained(game, tmp_path / "run", "gru", inputs=("obs", "action", "reward"))
    envs, alone, N = [game() for _ in range(3)], [agent.clone() for _ in range(3)], 3
    seen = [env.reset(seed=i) for i, env in enumerate(envs)]
    agent.reset(N)
    rewards, starts = [0.0] * N, np.ones(N, np.bool_)
    for t in range(4):
        masks = [
            env.action_masks() if isinstance(env, Nested) else info.get("action_mask")
            for env, (_, info) in zip(envs, seen, strict=True)
        ]
        single = []
        for i in range(N):
            if starts[i]:
                alone[i].reset()
            single.append(alone[i].act(seen[i][0], reward=rewards[i], mask=masks[i]))
        observations = batched(envs[0].observation_space, [observation for observation, _ in seen])
        actions = agent.act(observations, reward=rewards, mask=None if masks[0] is None else masks, start=starts)
        assert same(actions, batched(envs[0].action_space, single))
        steps = [env.step(action) for env, action in zip(envs, single, strict=True)]
        seen, rewards, starts = [(step[0], step[4]) for step in steps], [step[1] for step in steps], np.zeros(N, np.bool_)
        if t == 1:  # another episode begins in one of them
            seen[2], starts = envs[2].reset(), np.array([False, False, True])


def test_the_state_may_be_passed_in_and_out(tmp_path: pathlib.Path) -> None:
    agent = trained(Clipped, tmp_path / "run", "gru", inputs=("obs", "action"))
    env = Clipped()
    seen = [env.reset(seed=0)[0], *(env.step(env.action_space.sample())[0] for _ in range(4))]
    agent.reset()
    kept = [agent.act(observation) for observation in seen]
    state, passed, states = None, [], []
    for observation in seen:
        action, state = agent.act_from(state, observation)
        passed.append(action)
        states.append(state)
    assert all(map(same, passed, kept))
    assert same(agent.act_from(states[1], seen[2])[0], kept[2])  # an earlier one is as it was


def test_a_folder_tells_its_spaces_and_needs_no_environment(tmp_path: pathlib.Path) -> None:
    run = tmp_path / "run"
    trained(Pictures, run, "gru")
    config = run / "config.json"
    config.write_text(config.read_text().replace("games:Pictures", "nowhere:Pictures"))
    agent = hadamem.load(run)
    observation, info = Pictures().reset(seed=0)
    assert agent.act(observation, mask=info["action_mask"]).shape == (2,)
    with pytest.raises(ValueError, match="cannot import 'nowhere'"):
        agent.evaluate(1)
    checkpoint = read_checkpoint(run)
    del checkpoint["interface"]  # as older versions wrote it
    torch.save(checkpoint, run / "checkpoint.pt")
    with pytest.raises(ValueError, match="kept no spaces, and its environment nowhere:Pictures cannot be asked for them"):
        hadamem.load(run)
    agent.reset()
    assert same(
        hadamem.load(run, Pictures).act(observation, mask=info["action_mask"]), agent.act(observation, mask=info["action_mask"])
    )
    with pytest.raises(ValueError, match="trained in other spaces"):
        hadamem.load(run, Clipped)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("joint", [False, True])
def test_the_interface_has_the_columns_of_the_environment(game: type[Game], joint: bool) -> None:
    if joint and game is not Pictures:
        return
    env = make_vector(game, 2, 0, inputs=("obs", "action", "reward"), joint_actions=joint)
    interface = type(env.interface).from_json(json.loads(json.dumps(env.interface.to_json(), allow_nan=False)))
    assert (interface.layout, interface.described, interface.history) == (env.layout, env.described, env.interface.history)


@pytest.mark.parametrize("id", ["popgym-RepeatPreviousEasy-v0", "hadamem/Wind-v0", "hadamem/VisualMatch-v0", "Pendulum-v1"])
def test_the_interface_of_batched_tasks_too(id: str) -> None:
    env = make_vector(id, 2, 0)
    interface = type(env.interface).from_json(json.loads(json.dumps(env.interface.to_json(), allow_nan=False)))
    assert (interface.layout, interface.described) == (env.layout, env.described)


def test_what_is_wrong_is_said_in_a_line(tmp_path: pathlib.Path) -> None:
    agent = trained(MaskInside, tmp_path / "run", "gru", inputs=("obs", "reward"))
    good, _ = MaskInside().reset(seed=0)
    agent.act(good)
    for wrong, reward, message in (
        ({**good, "code": np.array([3, 0])}, 0, r"obs.code holds 3, which is not in MultiDiscrete\(\[3 2\]\)"),
        ({**good, "code": np.array([1])}, 0, r"obs.code has shape \(1,\); it must have \(2,\)"),
        ({**good, "code": np.array([0.5, 1])}, 0, "obs.code is float64, but its space is"),
        ({"action_mask": good["action_mask"]}, 0, "the observation has no obs.code"),
        ({"code": good["code"]}, 0, "the observation has no 'action_mask', which it had in training"),
        ({**good, "action_mask": np.zeros(3)}, 0, "allows none of the 3 choices"),
        (good, None, "give it as reward="),
        (good, [1, 2], "it must be one finite number"),
        (good, float("nan"), "it must be one finite number"),
    ):
        with pytest.raises(ValueError, match=message):
            agent.act(wrong, reward=reward)
    agent.reset(2)
    with pytest.raises(ValueError, match=r"obs.code has shape \(2,\); it must have \(2, 2\)"):
        agent.act(good)
    with pytest.raises(ValueError, match=r"start has shape \(3,\) and type bool; it must be \(2,\) bool"):
        agent.act(good, start=np.ones(3, np.bool_))
    with pytest.raises(ValueError, match="batch is 0"):
        agent.reset(0)
    with pytest.raises(ValueError, match="trained without masks"):
        trained(Game, tmp_path / "other", "mlp").act(Game().reset(seed=0)[0], mask=[1, 1, 1])
    with pytest.raises(RuntimeError, match="learned nothing yet"):
        hadamem.PPO("gru", Game, **SMALL).act(np.zeros(3))


def test_clones_share_weights_and_act_in_threads(tmp_path: pathlib.Path) -> None:
    agent = trained(Game, tmp_path / "run", "gru")
    rng = np.random.default_rng(0)
    seen = rng.uniform(-2, 2, (4, 30, 3))
    before = {name: weight.clone() for name, weight in agent._read().policy.state_dict().items()}

    def actions(player: Any, episode: np.ndarray) -> list[int]:
        player.reset()
        return [int(player.act(observation)) for observation in episode]

    wanted = [actions(agent, episode) for episode in seen]
    clones = [agent.clone() for _ in seen]
    got: list[Any] = [None] * len(seen)

    def run(i: int) -> None:
        for _ in range(5):
            got[i] = actions(clones[i], seen[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(seen))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == wanted
    assert clones[0]._read().policy is agent._read().policy
    assert all(torch.equal(weight, before[name]) for name, weight in agent._read().policy.state_dict().items())


def test_an_agent_that_learned_on_acts_with_its_new_weights(tmp_path: pathlib.Path) -> None:
    agent = trained(Game, tmp_path / "run", "gru")
    before = agent._player().policy
    agent.act(Game().reset(seed=0)[0])
    agent.learn(16)
    agent.act(Game().reset(seed=0)[0])
    assert agent._player().policy is not before
    assert not torch.equal(agent._player().policy.actor[0].weight, before.actor[0].weight)


def test_sac_acts_too(tmp_path: pathlib.Path) -> None:
    small = {"num_envs": 2, "num_steps": 10, "warmup_steps": 20, "batch_size": 2, "updates_per_step": 0.1, "hidden_sizes": (8,)}
    agent = hadamem.SAC("shm", Clipped, memory_size=4, reward_embed=2, **small)
    agent.learn(40)
    agent.config.inputs = agent.config.sac.network.inputs  # what `play` looks at
    got = play(agent, Clipped, 0, 2)
    assert len(got) == 2 * LENGTH


def test_a_packed_policy_acts_like_its_folder(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, file = tmp_path / "run", tmp_path / "policy.safetensors"
    agent = trained(Nested, run, inputs=("obs", "action", "reward"))
    run_command(["pack", str(run), "--out", str(file)])
    assert capsys.readouterr().out.splitlines()[-1] == str(file)
    packed = hadamem.load(file)
    assert (packed.steps, packed.config) == (agent.steps, agent.config)
    assert all(map(same, play(packed, Nested, 3, 2), play(agent, Nested, 3, 2)))
    assert packed.evaluate(2) == agent.evaluate(2)
    packed.save(tmp_path / "copy.safetensors")
    assert (tmp_path / "copy.safetensors").read_bytes() == file.read_bytes()
    with pytest.raises(FileExistsError):
        packed.save(tmp_path / "copy.safetensors")
    with pytest.raises(RuntimeError, match="holds a policy and no run: to learn on, load the folder"):
        packed.learn(16)


def test_a_packed_policy_that_is_damaged_or_foreign(tmp_path: pathlib.Path) -> None:
    from safetensors.torch import save_file

    run, file, bad = tmp_path / "run", tmp_path / "policy.safetensors", tmp_path / "bad.safetensors"
    agent = trained(Game, run, "mlp")
    run_command(["pack", str(run), "--out", str(file)])
    whole = file.read_bytes()
    for content, message in (
        (whole[:-1], "is no whole policy of hadamem"),
        (whole[:100], "is no whole policy of hadamem"),
        (b"", "is no whole policy of hadamem"),
        (whole.replace(b"hadamem policy 1", b"hadamem policy 9"), "is a hadamem policy 9; this version of hadamem reads"),
        (whole.replace(b'\\"memory\\": \\"mlp\\"', b'\\"memory\\": \\"gru\\"'), "damaged or of another version"),
        (whole.replace(b'\\"kind\\": \\"Box\\"', b'\\"kind\\": \\"Bix\\"'), "damaged or of another version"),
    ):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=message) as error:
            hadamem.load(bad)
        assert "\n" not in str(error.value)
    save_file({"a": torch.zeros(2)}, bad)
    with pytest.raises(ValueError, match="is no policy of hadamem: `hadamem pack` makes such files"):
        hadamem.load(bad)
    assert read_packed(file).steps == agent.steps > 0

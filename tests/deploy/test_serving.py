"""A policy behind HTTP: the actions of an agent at home, one state a session, one line for what is wrong."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

import hadamem
from hadamem.deploy import Limits, read_trained
from hadamem.deploy.serving import make_app


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("serving") / "run"
    agent = hadamem.PPO("gru", "CartPole-v1", memory_size=8, num_envs=4, num_steps=16, minibatches=1, learning_rate=0.03)
    agent.learn(512, out=path)
    return path


@pytest.fixture(scope="module")
def client(run: pathlib.Path) -> TestClient:
    return TestClient(make_app(read_trained(run)), raise_server_exceptions=False)


def open_session(client: TestClient, **how: bool) -> str:
    return client.post("/sessions", json=how).json()["session"]


def actions_at_home(run: pathlib.Path, observations: np.ndarray) -> list[int]:
    agent = hadamem.load(run)
    return [int(agent.act(observation)) for observation in observations]


def test_sessions_do_not_see_each_other(run: pathlib.Path, client: TestClient) -> None:
    random = np.random.default_rng(0)
    episodes = random.normal(size=(6, 12, 4)).astype(np.float32)
    wanted = [actions_at_home(run, episode) for episode in episodes]
    assert len({tuple(actions) for actions in wanted}) > 1
    names = [open_session(client) for _ in episodes]
    got: list[list[int]] = [[] for _ in episodes]
    for t in range(12):
        together = random.permutation(6)[:3]  # some in one request, the others each in its own
        steps = [{"session": names[i], "observation": episodes[i, t].tolist()} for i in together]
        for i, action in zip(together, client.post("/act", json=steps).json()["actions"], strict=True):
            got[i].append(action)
        for i in set(range(6)) - set(together.tolist()):
            answer = client.post(f"/sessions/{names[i]}/act", json={"observation": episodes[i, t].tolist()})
            got[i].append(answer.json()["action"])
    assert got == wanted
    client.post(f"/sessions/{names[0]}/reset")
    again = [client.post(f"/sessions/{names[0]}/act", json={"observation": o.tolist()}).json()["action"] for o in episodes[1]]
    assert again == wanted[1]


@pytest.mark.parametrize(
    ("path", "body", "code", "words"),
    [
        ("/sessions/nobody/act", {"observation": [0, 0, 0, 0]}, 404, "no session 'nobody'"),
        ("/sessions/{}/act", {"observation": [0, 0, 0]}, 422, "(3,)"),
        ("/sessions/{}/act", {"observation": "north"}, 422, "obs has shape"),
        ("/sessions/{}/act", {}, 422, "obs has shape"),
        ("/sessions/{}/act", {"observation": [0, 0, 0, 0], "mask": [1, 1]}, 422, "mask"),
        ("/sessions/{}/act", {"obs": [0, 0, 0, 0]}, 422, "obs: Extra inputs"),
        ("/act", [], 422, "0 steps"),
        ("/act", [{"session": "{}", "observation": [0, 0, 0, 0]}] * 2, 422, "twice"),
        ("/sessions", {"greedy": "perhaps"}, 422, "greedy"),
    ],
)
def test_bad_requests_are_answered_in_a_line(client: TestClient, path: str, body: object, code: int, words: str) -> None:
    session = open_session(client)
    if isinstance(body, list):
        body = [{name: session if name == "session" else value for name, value in step.items()} for step in body]
    answer = client.post(path.format(session), json=body)
    assert answer.status_code == code
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_a_batch_in_which_one_is_wrong_changes_nothing(run: pathlib.Path, client: TestClient) -> None:
    observations = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    one, other = open_session(client), open_session(client, greedy=False)
    got = []
    for observation in observations:
        steps = [{"session": one, "observation": observation.tolist()}, {"session": other, "observation": [1]}]
        assert client.post("/act", json=steps).status_code == 422
        got.append(client.post(f"/sessions/{one}/act", json={"observation": observation.tolist()}).json()["action"])
    assert got == actions_at_home(run, observations)


def test_limits(run: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(max_sessions=2, idle_seconds=60, max_bytes=200, max_batch=1)
    client = TestClient(make_app(read_trained(run), limits, token="open"))
    assert client.get("/health").json()["memory"] == "gru"
    assert client.post("/sessions").status_code == 401
    client.headers["Authorization"] = "Bearer open"
    first, second = open_session(client), open_session(client)
    assert client.post("/sessions").status_code == 503
    assert client.post(f"/sessions/{first}/act", json={"observation": [0.0] * 100}).status_code == 413
    steps = [{"session": name, "observation": [0.0] * 4} for name in (first, second)]
    assert "at most 1" in client.post("/act", json=steps).json()["error"]
    assert "hadamem_sessions 2.0" in client.get("/metrics").text
    clock = __import__("time").monotonic
    monkeypatch.setattr("hadamem.deploy.serving.time.monotonic", lambda: clock() + 61)
    assert client.post(f"/sessions/{first}/act", json={"observation": [0.0] * 4}).status_code == 404
    assert client.post("/sessions").status_code == 201
    assert client.delete(f"/sessions/{second}").status_code == 404


def test_the_command_serves_and_ends(run: pathlib.Path) -> None:
    command = [sys.executable, "-m", "hadamem", "serve", str(run), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert server.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert found
        with urllib.request.urlopen(f"{found[0]}/health", timeout=30) as answer:
            assert b'"status":"ok"' in answer.read()
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) in (0, -signal.SIGTERM)
    finally:
        server.kill()

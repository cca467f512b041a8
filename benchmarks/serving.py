"""Load test of `hadamem serve`: many sessions on loopback, each of which must get the same actions as an agent in this process.

    python benchmarks/serving.py runs/first

Each session has observations of its own, of four numbers (CartPole), so that its actions would change if it used the state of
another session. For this comparison, the memory must not draw random numbers (gru, not shm).
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import re
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import tyro

import hadamem


@dataclass(kw_only=True)
class Load:
    """Measure requests per second and their times, with a step of one session, and with a step of many sessions per request."""

    run: tyro.conf.Positional[pathlib.Path]
    """folder of a run"""
    sessions: int = 1000
    """number of sessions at the same time"""
    connections: int = 16
    """number of connections, each of which sends one request after the other"""
    steps: int = 20
    """number of steps of each session in each of the two kinds of requests"""
    batch: int = 64
    """largest number of sessions in a batched request"""


class Connection:
    """One HTTP connection that stays open."""

    async def open(self, port: int) -> Connection:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        return self

    async def post(self, path: str, content: object) -> dict:
        body = json.dumps(content).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        answer = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"content-length: (\d+)", answer)
        assert length, answer
        text = await self.reader.readexactly(int(length[1]))
        if not answer.startswith("http/1.1 20"):
            raise RuntimeError(f"{answer.splitlines()[0]}: {text.decode()}")
        return json.loads(text)


async def measure(port: int, load: Load, observations: np.ndarray) -> tuple[np.ndarray, list[dict[str, object]]]:
    """The actions (sessions, 2 * steps), and a row of the table for each kind of request."""
    connections = [await Connection().open(port) for _ in range(load.connections)]
    shares = np.array_split(np.arange(load.sessions), load.connections)
    names: list[str] = [""] * load.sessions
    actions = np.zeros((load.sessions, 2 * load.steps), np.int64)
    rows = []

    async def begin(connection: Connection, share: np.ndarray) -> None:
        for i in share:
            names[i] = (await connection.post("/sessions", {}))["session"]

    await asyncio.gather(*(begin(c, share) for c, share in zip(connections, shares, strict=True)))
    for name, size, first in (
        ("one step a request", 1, 0),
        (f"steps of {load.batch} sessions a request", load.batch, load.steps),
    ):
        seconds: list[float] = []

        async def play(
            connection: Connection, share: np.ndarray, size: int = size, first: int = first, seconds: list[float] = seconds
        ) -> None:
            for t in range(first, first + load.steps):
                for n in range(0, len(share), size):
                    part = share[n : n + size]
                    steps = [{"session": names[i], "observation": observations[i, t].tolist()} for i in part]
                    begin = time.perf_counter()
                    if size == 1:
                        path = f"/sessions/{steps[0].pop('session')}/act"
                        actions[part, t] = (await connection.post(path, steps[0]))["action"]
                    else:
                        actions[part, t] = (await connection.post("/act", steps))["actions"]
                    seconds.append(time.perf_counter() - begin)

        begin_all = time.perf_counter()
        await asyncio.gather(*(play(c, share) for c, share in zip(connections, shares, strict=True)))
        total = time.perf_counter() - begin_all
        row = {"requests/s": len(seconds) / total, "steps/s": load.sessions * load.steps / total}
        row |= {f"{q} % within, ms": 1e3 * float(np.percentile(seconds, q)) for q in (50, 99)}
        rows.append({"": name, **{key: f"{value:,.1f}" for key, value in row.items()}})
    return actions, rows


def main() -> None:
    load = tyro.cli(Load)
    command = [sys.executable, "-m", "hadamem", "serve", str(load.run), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline())
        assert found, "the server did not begin"
        agent = hadamem.load(load.run)
        observations = np.random.default_rng(0).normal(size=(load.sessions, 2 * load.steps, 4)).astype(np.float32)
        actions, rows = asyncio.run(measure(int(found[1]), load, observations))
    finally:
        server.terminate()
        server.wait()
    agent.reset(batch=load.sessions)
    wanted = np.stack([agent.act(observations[:, t]) for t in range(2 * load.steps)], axis=1)
    mixed = int((actions != wanted).any(axis=1).sum())
    print(f"{load.sessions:,} sessions on {load.connections} connections, {mixed} with another action than an agent at home\n")
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")
    sys.exit(mixed > 0)


if __name__ == "__main__":
    main()

"""A trained policy as an HTTP server with sessions, each of which has its own state of the memory.

Requests are handled in one thread, one after the other, because a step takes less time than passing it to another thread. No
session can see the state of another one.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from fastapi import Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict

from .. import __version__
from ..envs.interface import row_of
from .acting import Acting, ActingState
from .limits import Limits
from .trained import Trained

_TIMES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5)  # seconds: bounds of the histogram


@dataclass
class Session:
    """A session of one client, which plays one episode after another.

    Attributes:
        state: the state before the next observation; None: that observation is the first of an episode.
        greedy: whether the most likely actions are taken.
        used: time of the last use, in seconds of `time.monotonic`.
    """

    state: ActingState | None
    greedy: bool
    used: float


class Sessions:
    """All sessions of a server, the least recently used session first."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, greedy: bool) -> str:
        """Open a new session, and return its name, which cannot be guessed."""
        self.end_idle()
        if len(self) >= self.limits.max_sessions:
            raise HTTPException(503, f"there are {len(self):,} sessions, and no more are allowed; end one, or come back later")
        name = secrets.token_urlsafe(12)
        self._sessions[name] = Session(None, greedy, time.monotonic())
        return name

    def use(self, name: str) -> Session:
        """The session of that name, with its time of last use set to now."""
        self.end_idle()
        session = self._sessions.get(name)
        if session is None:
            raise HTTPException(404, f"there is no session {name!r}; it has ended, or never existed. POST /sessions begins one")
        session.used = time.monotonic()
        self._sessions.move_to_end(name)
        return session

    def close(self, name: str) -> None:
        """End a session."""
        self.use(name)
        del self._sessions[name]

    def end_idle(self) -> None:
        """End the sessions that have not been used for `idle_seconds`."""
        while self._sessions:
            name, session = next(iter(self._sessions.items()))
            if time.monotonic() - session.used < self.limits.idle_seconds:
                return
            del self._sessions[name]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewSession(_Strict):
    """The settings of a new session."""

    greedy: bool = True


class Step(_Strict):
    """The result of a step of an environment, for which an action is wanted."""

    observation: Any = None
    reward: float | None = None
    mask: Any = None


class SessionStep(Step):
    """A step of one of many sessions."""

    session: str


def make_app(trained: Trained, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """The web application of a trained policy.

    Args:
        trained: the policy that acts.
        limits: see `Limits`.
        token: secret that requests, except GET /health, must send as "Authorization: Bearer TOKEN"; None: no token is needed.
    """
    limits = limits or Limits()
    acting, sessions = Acting(trained.policy, trained.interface), Sessions(limits)
    registry = CollectorRegistry()
    acted = Counter("hadamem_steps", "Actions that were chosen", registry=registry)
    refused = Counter("hadamem_refused", "Requests that were answered with an error", registry=registry)
    seconds = Histogram("hadamem_step_seconds", "Time of a step, alone or of a batch", buckets=_TIMES, registry=registry)
    Gauge("hadamem_sessions", "Sessions now", registry=registry).set_function(lambda: len(sessions))
    app = FastAPI(title=f"{trained.config.memory} on {trained.config.env}", version=__version__)

    async def allowed(
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
    ) -> None:
        if token is not None and (credentials is None or not secrets.compare_digest(credentials.credentials, token)):
            raise HTTPException(401, "a token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})

    @app.middleware("http")
    async def count_and_limit(request: Request, answer: Any) -> Response:
        if int(request.headers.get("content-length", 0)) > limits.max_bytes or "transfer-encoding" in request.headers:
            response: Response = JSONResponse(
                {"error": f"the request is too long: at most {limits.max_bytes:,} bytes, with a Content-Length"}, 413
            )
        else:
            response = await answer(request)
        if response.status_code >= 400:
            refused.inc()
        return response

    @app.exception_handler(HTTPException)
    async def say_http(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def say_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"}, 422)

    @app.exception_handler(ValueError)
    async def say_wrong(request: Request, error: ValueError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    def play(steps: list[tuple[Session, Step]]) -> list[Any]:
        """The actions of different sessions; if a step is not valid, the states of all sessions stay unchanged."""
        with seconds.time():
            seen = []
            for i, (session, step) in enumerate(steps):
                state, start = session.state or acting.begin(), np.array([session.state is None])
                try:
                    seen.append((acting.rows_of(step.observation, state, start, step.reward, step.mask), state, start))
                except (TypeError, KeyError, OverflowError) as error:
                    raise ValueError(f"the observation is not in {trained.interface.observation}: {error}") from None
                except ValueError as error:
                    raise ValueError(f"step {i}: {error}" if len(steps) > 1 else str(error)) from None
            actions: list[Any] = [None] * len(steps)
            for greedy in (True, False):
                if there := [i for i, (session, _) in enumerate(steps) if session.greedy == greedy]:
                    rows, states, starts = zip(*(seen[i] for i in there), strict=True)
                    chosen, after = acting.play(np.concatenate(rows), _joined(states), np.concatenate(starts), greedy)
                    for row, i in enumerate(there):
                        actions[i], steps[i][0].state = _plain(row_of(chosen, row)), _part(after, row)
        acted.inc(len(steps))
        return actions

    secured = [Depends(allowed)]

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Report that the server is running, and which policy it serves."""
        return {"status": "ok", "memory": trained.config.memory, "env": trained.config.env, "trained_steps": trained.steps}

    @app.get("/metrics", dependencies=secured, response_class=PlainTextResponse)
    async def metrics() -> str:
        """Metrics in the format of Prometheus."""
        return generate_latest(registry).decode()

    @app.get("/spaces", dependencies=secured)
    async def get_spaces() -> dict[str, str]:
        """The spaces of observations and actions."""
        return {"observation": str(trained.interface.observation), "action": str(trained.interface.action)}

    @app.post("/sessions", status_code=201, dependencies=secured)
    async def open_session(how: Annotated[NewSession | None, Body()] = None) -> dict[str, str]:
        """Begin a session; its first observation is the first of an episode."""
        return {"session": sessions.open((how or NewSession()).greedy)}

    @app.delete("/sessions/{name}", dependencies=secured)
    async def close_session(name: str) -> dict[str, bool]:
        """End a session."""
        sessions.close(name)
        return {"ended": True}

    @app.post("/sessions/{name}/reset", dependencies=secured)
    async def reset(name: str) -> dict[str, bool]:
        """Let the next observation be the first of an episode."""
        sessions.use(name).state = None
        return {"reset": True}

    @app.post("/sessions/{name}/act", dependencies=secured)
    async def act(name: str, step: Step) -> dict[str, Any]:
        """The action for an observation, both in the environment's own form, with arrays as lists."""
        return {"action": play([(sessions.use(name), step)])[0]}

    @app.post("/act", dependencies=secured)
    async def act_in_many(steps: list[SessionStep]) -> dict[str, Any]:
        """The actions of many sessions, one step of each, computed as one batch."""
        if not 0 < len(steps) <= limits.max_batch:
            raise ValueError(f"there are {len(steps)} steps; there must be at least 1 and at most {limits.max_batch}")
        if len({step.session for step in steps}) < len(steps):
            raise ValueError("a session occurs twice; it can make only one step at a time")
        return {"actions": play([(sessions.use(step.session), step) for step in steps])}

    return app


def _joined(states: Sequence[ActingState]) -> ActingState:
    """Join the states of single episodes to one batch."""
    if len(states) == 1:
        return states[0]
    memory = {name: torch.cat([state.memory[name] for state in states]) for name in states[0].memory}
    return ActingState(memory, np.concatenate([state.history for state in states]), single=False)


def _part(state: ActingState, i: int) -> ActingState:
    """The state of episode i of a batch, as a separate copy."""
    memory = {name: leaf[i : i + 1].clone() for name, leaf in state.memory.items()}
    return ActingState(memory, state.history[i : i + 1].copy(), single=True)


def _plain(action: Any) -> Any:
    """Convert an action to lists, numbers and dicts that JSON can represent."""
    if isinstance(action, dict):
        return {str(name): _plain(part) for name, part in action.items()}
    if isinstance(action, tuple):
        return [_plain(part) for part in action]
    return action.tolist() if isinstance(action, np.ndarray | np.generic) else action

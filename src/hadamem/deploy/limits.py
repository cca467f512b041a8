"""Limits of a policy server, in a module of their own, since they need none of the server's packages."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import check_fields


@dataclass
class Limits:
    """Limits on what the clients of a server may do."""

    max_sessions: int = 10_000
    """largest number of sessions at a time; further ones are refused"""
    idle_seconds: float = 900.0
    """seconds after which an unused session is ended"""
    max_bytes: int = 4_000_000
    """largest length of a request, in bytes"""
    max_batch: int = 1024
    """largest number of steps in one batched request"""

    def __post_init__(self) -> None:
        check_fields(self, ("max_sessions", "max_bytes", "max_batch"), at_least=1)
        check_fields(self, ("idle_seconds",), above=0)

"""What a server of a policy allows; apart from it, since it needs no other package."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import check_fields


@dataclass
class Limits:
    """What a server lets its clients do."""

    max_sessions: int = 10_000
    """sessions at a time; one more is refused"""
    idle_seconds: float = 900.0
    """seconds after which a session that nobody uses ends"""
    max_bytes: int = 4_000_000
    """length of a request"""
    max_batch: int = 1024
    """steps in one batched request"""

    def __post_init__(self) -> None:
        check_fields(self, ("max_sessions", "max_bytes", "max_batch"), at_least=1)
        check_fields(self, ("idle_seconds",), above=0)

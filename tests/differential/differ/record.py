"""What is written down about a call: what the client saw, what the upstreams saw, what the access log said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.h1 import Headers


@dataclass(slots=True)
class Received:
    """One request as an upstream received it."""

    upstream: str
    protocol: str
    method: str
    path: str
    headers: Headers
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    connection: int = 0


@dataclass(slots=True)
class Answer:
    """One response as the client received it; `end` is how it ended: "complete", "reset <code>", "cut", "none"."""

    status: int
    headers: Headers
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    interim: tuple[int, ...] = ()
    end: str = "complete"


@dataclass(slots=True)
class Seen:
    """A client's view of its connection; `fate`: "open", "closed", "reset", … some time after the last step."""

    answers: list[Answer] = field(default_factory=list)
    raw: bytes = b""
    fate: str = "open"
    ports: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """Everything about one call through one proxy."""

    seen: Seen
    received: list[Received]
    logs: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

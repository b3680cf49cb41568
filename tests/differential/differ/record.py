"""What is written down about a call: what the client saw, what the upstreams saw, what the access log said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.h1 import Headers


@dataclass(slots=True)
class Received:
    """One request as an upstream received it; `proxied`: what a PROXY header before it said, `names` as they came."""

    upstream: str
    protocol: str
    method: str
    path: str
    headers: Headers
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    connection: int = 0
    names: tuple[str, ...] = ()
    proxied: str = ""


@dataclass(slots=True)
class Answer:
    """One response as the client received it, interim ones before it each as one text.

    `end` is how it ended: "complete", "reset <code>", "cut", "none".
    """

    status: int
    headers: Headers
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    interim: tuple[str, ...] = ()
    end: str = "complete"
    names: tuple[str, ...] = ()


def interim(status: int, headers: Headers) -> str:
    """An interim response as one text: its status, and its headers by name."""
    return " ".join([str(status), *(f"{name}: {value};" for name, value in sorted(headers))])


@dataclass(slots=True)
class Seen:
    """A client's view of its connection; `fate`: "open", "closed", "reset", … some time after the last step.

    `waits`: whether what was waited for came when it had to.
    """

    answers: list[Answer] = field(default_factory=list)
    raw: bytes = b""
    fate: str = "open"
    ports: list[int] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """Everything about one call through one proxy; `control`: what its control plane was asked and told."""

    seen: Seen
    received: list[Received]
    logs: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    control: dict[str, str] = field(default_factory=dict)

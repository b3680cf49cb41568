"""What is known of one request or connection when it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """`headers` are by lower-case name; `host` is the authority with its port, if it has one; `path` is without
    query; `claims` are those of a verified token, None without one.
    """

    method: str = "GET"
    path: str = "/"
    host: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One call to an application port. `principal` is the caller's SPIFFE id without scheme, None for plaintext;
    `http` None is a connection of which no request is read. Addresses are IPs without port.
    """

    port: int
    principal: str | None
    http: HttpRequest | None = None
    source_ip: str = "127.0.0.1"
    remote_ip: str = "127.0.0.1"
    destination_ip: str = "127.0.0.1"
    server_name: str = ""

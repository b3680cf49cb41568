"""Reads calls.yaml, sends each call through a proxy and says how what happened differs from what was expected.

A call is a request (method, host, path, headers, body) and what to expect of it:

    status, flag            the answer's status and Envoy's response flag ("-" for none)
    endpoint                the workload that answered
    cluster, route          by the proxy's access log
    path, host              as the endpoint saw them
    headers                 of the answer: a value, or null for absence
    request_headers         as the endpoint saw them, likewise
    body                    of the answer, whole
    attempts                how many requests reached any endpoint
    mirrored                other workloads that must have received a copy
    shares                  of `repeat` calls: workload → ratio; a share may miss by five standard deviations
    sticky                  true: one endpoint answered all `repeat` calls
    closed                  true: the connection was closed without an answer

`caller` is the workload whose proxy is used, `listener` which of its listeners. To an inbound listener a call
comes as `identity` (`NAMESPACE/ACCOUNT`, by mutual TLS) or without one in plaintext; `alpn` "" is a TCP caller's.
With `sni` the caller speaks TLS of its own to the server of that name. `servers` (beside `calls`) are hosts outside the
mesh; `{NAME}` in a host is the port of one.
"""

from __future__ import annotations

import http.client
import math
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from case_harness.echo import Received, Upstreams
from harness.identities import Identities

WAIT_SECONDS = 4.0
SIGMAS = 5.0
LOGGED = frozenset({"flag", "route", "cluster"})
"""Expectations that are read from the access log."""


@dataclass(frozen=True, slots=True)
class Call:
    """One entry of calls.yaml."""

    name: str
    request: dict[str, Any]
    expect: dict[str, Any]
    caller: str = "client"
    listener: str = "outbound"
    repeat: int = 1
    identity: str | None = None
    alpn: str = "http/1.1"
    sni: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """The listener's port, and who vouches for callers."""

    port: int
    identities: Identities
    servers: Mapping[str, int] = field(default_factory=dict)

    def connect(self, call: Call) -> socket.socket:
        """A connection of the caller."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        if call.sni is not None:
            context = ssl.create_default_context(cadata=self.identities.root)
            return context.wrap_socket(plain, server_hostname=call.sni)
        if call.identity is None:
            return plain
        namespace, _, account = call.identity.partition("/")
        context = self.identities.client(namespace, account)
        if call.alpn:
            context.set_alpn_protocols([call.alpn])
        return context.wrap_socket(plain)


@dataclass(frozen=True, slots=True)
class Logged:
    """One line of the access log."""

    flag: str
    route: str
    cluster: str


@dataclass(slots=True)
class Outcome:
    """What happened to one request."""

    status: int
    headers: dict[str, str]
    body: bytes
    received: list[Received] = field(default_factory=list)
    logged: Logged | None = None


def read_calls(path: Path) -> list[Call]:
    """The calls of a case; an unknown key is an error."""
    return [Call(**entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["calls"]]


def read_servers(path: Path) -> list[str]:
    """The names of the servers outside the mesh that a case's calls go to."""
    return list(yaml.safe_load(path.read_text(encoding="utf-8")).get("servers", ()))


def send(call: Call, way: Way, call_id: str) -> Outcome:
    """One request, with its id in `x-call`; status 0 when the connection is closed instead of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", way.port, timeout=30)
    try:
        connection.sock = way.connect(call)
        return _exchange(call, connection, call_id, way.servers)
    except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLError):
        return Outcome(0, {}, b"")
    finally:
        connection.close()


def _exchange(
    call: Call, connection: http.client.HTTPConnection, call_id: str, servers: Mapping[str, int]
) -> Outcome:
    request = call.request
    method = request.get("method", "GET")
    connection.putrequest(method, request.get("path", "/"), skip_host=True, skip_accept_encoding=True)
    connection.putheader("host", _placed(request.get("host", "backend-service"), servers))
    connection.putheader("x-call", call_id)
    body = request.get("body", "").encode()
    for name, value in request.get("headers", {}).items():
        for each in value if isinstance(value, list) else [value]:
            connection.putheader(name, each)
    if body:
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body or None)
    answer = connection.getresponse()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Outcome(answer.status, headers, answer.read())


def _placed(host: str, servers: Mapping[str, int]) -> str:
    for name, port in servers.items():
        host = host.replace(f"{{{name}}}", str(port))
    return host


def differences(call: Call, outcome: Outcome) -> Iterator[str]:
    """One line for each expectation that was not met."""
    final = [each for each in outcome.received if each.endpoint == outcome.headers.get("x-endpoint")]
    seen = final[-1] if final else None
    logged = outcome.logged or Logged("?", "?", "?")
    actual = {
        "status": outcome.status,
        "flag": logged.flag,
        "route": logged.route,
        "cluster": logged.cluster,
        "endpoint": outcome.headers.get("x-endpoint"),
        "path": seen.path if seen else None,
        "host": seen.headers.get("host") if seen else None,
        "body": outcome.body.decode(errors="replace"),
        "attempts": len(outcome.received),
        "closed": outcome.status == 0,
    }
    if outcome.status == 0 and not call.expect.get("closed"):
        yield f"{call.name}: the connection was closed without an answer"
    for key, wanted in call.expect.items():
        if key in actual:
            if actual[key] != wanted:
                yield f"{call.name}: {key} is {actual[key]!r}, not {wanted!r}"
        elif key == "headers":
            yield from _headers(call, "answer", outcome.headers, wanted)
        elif key == "request_headers":
            yield from _headers(call, "request", seen.headers if seen else {}, wanted)
        elif key not in ("mirrored", "shares", "sticky"):
            yield f"{call.name}: there is no expectation {key!r}"


def share_differences(call: Call, answered: Counter[str]) -> Iterator[str]:
    """Shares that are too far from the ratio: by five standard deviations, or at all where it is 0 or all."""
    shares: dict[str, int] = call.expect["shares"]
    total = sum(shares.values())
    for endpoint, weight in shares.items():
        probability = weight / total
        allowed = SIGMAS * math.sqrt(call.repeat * probability * (1 - probability))
        if abs(answered[endpoint] - call.repeat * probability) > allowed:
            yield f"{call.name}: {endpoint} answered {answered[endpoint]} of {call.repeat}, ratio {weight}/{total}"
    for endpoint in answered.keys() - shares.keys():
        yield f"{call.name}: {endpoint} answered and has no share"


def sticky_differences(call: Call, answered: Counter[str]) -> Iterator[str]:
    """More than one endpoint where one was to answer everything."""
    if len(answered) != 1:
        yield f"{call.name}: answered by {dict(answered)}, not by one endpoint"


def wait_mirrored(call: Call, call_id: str, upstreams: Upstreams) -> Iterator[str]:
    """Mirrored requests arrive when they arrive: waits for them, within bounds."""
    for endpoint in call.expect.get("mirrored", ()):
        deadline = time.monotonic() + WAIT_SECONDS
        while not any(each.endpoint == endpoint for each in upstreams.seen[call_id]):
            if time.monotonic() > deadline:
                yield f"{call.name}: {endpoint} received no copy"
                break
            time.sleep(0.01)


def read_log(path: Path, wanted: set[str]) -> dict[str, Logged]:
    """The access log by call id, once every wanted id is there (or after some seconds)."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        found: dict[str, Logged] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            parts = line.split("\t")
            if len(parts) == 5:
                found[parts[0]] = Logged(parts[1], parts[2], parts[3])
        if wanted <= found.keys() or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def _headers(call: Call, what: str, actual: dict[str, str], wanted: dict[str, str | None]) -> Iterator[str]:
    for name, value in wanted.items():
        if actual.get(name.lower()) != value:
            yield f"{call.name}: {what} header {name} is {actual.get(name.lower())!r}, not {value!r}"

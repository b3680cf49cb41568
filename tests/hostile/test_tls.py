"""Rows 46 and 47: a server name and a host of two owners, protocols that were not agreed on, old versions of TLS."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attack import gateway
from attack.frames import PREFACE, setting
from attack.judge import good_request
from attack.member import speak_mesh
from attack.positions import Arena, Position, arena
from attack.upstream import Application
from attack.wire import CLOSED, RESET, Line, converse

from harness.identities import Identities
from harness.proxies import DataPlane

Arenas = Callable[[Position, DataPlane], Arena]

pytestmark = pytest.mark.integration


@pytest.fixture
def edge(plane: DataPlane, arenas: Arenas) -> Arena:
    """A gateway with a new recording."""
    found = arenas("gateway", plane)
    found.application.forget()
    return found


def _context(edge: Arena, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=edge.identities.root)
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def _get(line: Line, host: str) -> list[int]:
    return converse(line, [f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()], 1).statuses


@pytest.mark.parametrize("host", [gateway.OTHER, "a.wild.example", "nobody.example"])
def test_a_host_of_another_listener(edge: Arena, host: str) -> None:
    """Row 46: a connection for one owner's name serves no other owner's host."""
    with edge.secure(_context(edge), gateway.HOST) as line:
        assert set(_get(line, host)) <= {404, 421}
    assert not edge.application.snapshot().requests
    assert not list(good_request(edge))


@pytest.mark.parametrize("name", [gateway.HOST, gateway.OTHER, "a.wild.example"])
def test_own_hosts_are_served(edge: Arena, name: str) -> None:
    """Row 46: each name leads to its owner."""
    with edge.secure(_context(edge), name) as line:
        assert _get(line, name) == [200]


@pytest.mark.parametrize("name", [None, "wild.example", "nobody.example", "shop.example.evil"])
def test_nobodys_name(edge: Arena, name: str | None) -> None:
    """Row 46: without a name that somebody owns there is no connection."""
    with pytest.raises(OSError), edge.secure(_context(edge), name) as line:
        raise ConnectionResetError(line.drain())
    assert not list(good_request(edge))


UPSTREAM = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


@pytest.mark.parametrize(
    ("name", "expected"), [("a.wild.example", 200), ("a.b.wild.example", 503), ("wild.example", 503)]
)
def test_a_wildcard_certificate_is_for_one_label(
    plane: DataPlane, name: str, expected: int, tmp_path: Path
) -> None:
    """Row 46: a server that is to be called by a name, and shows a certificate for one label below another name."""
    mesh = Identities()
    with Application() as server:
        port = server.add("server", mesh.server(gateway.WILD))

        def towards(bootstrap: dict[str, Any]) -> None:
            for cluster in bootstrap["static_resources"]["clusters"]:
                if cluster["name"].startswith("outbound|80||backend-service"):
                    speak_mesh(cluster, "spiffe://cluster.local/ns/x/sa/y", port, (mesh, "client"))
                    wanted = {"san_type": "DNS", "matcher": {"exact": name}}
                    peers = {
                        "trusted_ca": {"inline_string": mesh.root},
                        "match_typed_subject_alt_names": [wanted],
                    }
                    context = {
                        "@type": UPSTREAM,
                        "sni": name,
                        "common_tls_context": {"validation_context": peers},
                    }
                    cluster["transport_socket"]["typed_config"] = context

        with arena("outbound", plane, tmp_path, towards) as calling, calling.connect() as line:
            assert _get(line, calling.host) == [expected]
        assert len(server.snapshot().requests) == (expected == 200)


@pytest.fixture(params=["gateway", "inbound"])
def terminating(request: pytest.FixtureRequest, plane: DataPlane, arenas: Arenas) -> Arena:
    """A position that ends TLS, with a new recording."""
    found = arenas(request.param, plane)
    found.application.forget()
    return found


def _agreed(arena: Arena, *protocols: str) -> Line:
    """A connection with these protocols on offer."""
    if arena.position == "gateway":
        return arena.secure(_context(arena, *protocols), gateway.HOST)
    context = arena.identities.client("default", "attacker")
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return arena.upgraded(context)


def test_no_protocol_agreed_on(terminating: Arena) -> None:
    """Row 47: without ALPN it is HTTP/1.1."""
    with _agreed(terminating) as line:
        assert _get(line, terminating.host) == [200]


def test_no_protocol_in_common(terminating: Arena) -> None:
    """Row 47: protocols that nobody here speaks are refused, or it is HTTP/1.1 that is spoken."""
    with contextlib.suppress(OSError), _agreed(terminating, "spdy/3") as line:
        assert _get(line, terminating.host) in ([], [200])
    assert not list(good_request(terminating))


def test_one_protocol_agreed_on_and_the_other_spoken(terminating: Arena) -> None:
    """Row 47: what was agreed on decides, not the first bytes."""
    with _agreed(terminating, "http/1.1") as line:
        line.send(PREFACE + setting())
        assert line.drain() in {CLOSED, RESET}
        assert not line.kept.startswith(b"\0\0")
    with _agreed(terminating, "h2") as line:
        line.send(f"GET /x HTTP/1.1\r\nHost: {terminating.host}\r\n\r\n".encode())
        assert line.drain() in {CLOSED, RESET}
        assert b"HTTP/1.1 200" not in line.kept
    assert not terminating.application.snapshot().requests
    assert not list(good_request(terminating))


def test_old_versions_are_refused(edge: Arena) -> None:
    """Row 47: TLS 1.1 and below."""
    context = _context(edge)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError):
        edge.secure(context, gateway.HOST)
    assert not list(good_request(edge))


def test_only_the_newest_inside_the_mesh(plane: DataPlane, arenas: Arenas) -> None:
    """Row 47: sidecars take TLS 1.3 only."""
    inbound = arenas("inbound", plane)
    inbound.application.forget()
    context = inbound.identities.client("default", "attacker")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):
        inbound.upgraded(context)
    assert not list(good_request(inbound))

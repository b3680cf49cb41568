"""Rows 42 to 44: plaintext where mutual TLS is asked for, and peers whose certificates no member of the mesh has, seen
from the called side and from the caller's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from attack.forged import CALLER, SERVER, Impostor, certificates, presenting
from attack.frames import PREFACE, setting
from attack.judge import good_request
from attack.member import as_emitted, member, speak_mesh
from attack.positions import Arena, arena
from attack.wire import CLOSED, RESET, Line, converse
from cryptography import x509

from harness.identities import Identities
from harness.proxies import DataPlane, connected

pytestmark = pytest.mark.integration

TCP_PORT = "inbound|9101"
PATIENCE_S = 15.0

PLAINTEXT = {
    "HTTP/1.1": b"GET /x HTTP/1.1\r\nHost: shop\r\n\r\n",
    "HTTP/2": PREFACE + setting(),
    "PROXY protocol": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /x HTTP/1.1\r\nHost: shop\r\n\r\n",
    "bytes": b"\x00\x01\x02\x03hello",
    "half a record": b"\x16\x03\x01",
    "a record of nonsense": b"\x16\x03\x01\x00\x10" + b"\xff" * 16,
}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[DataPlane], Arena]]:
    """The called side as a member of its mesh; each is started once."""
    running: dict[str, Arena] = {}
    with contextlib.ExitStack() as stack:

        def get(plane: DataPlane) -> Arena:
            if plane.name not in running:
                folder, mesh = tmp_path_factory.mktemp(plane.name), Identities()
                change = as_emitted if plane.name == "tulle" else lambda _: None
                made = arena("inbound", member(plane, mesh, "shop", folder), folder, change, mesh)
                running[plane.name] = stack.enter_context(made)
            return running[plane.name]

        yield get


@pytest.fixture
def inbound(plane: DataPlane, members: Callable[[DataPlane], Arena]) -> Arena:
    """The called side with a new recording."""
    found = members(plane)
    found.application.forget()
    return found


@pytest.mark.parametrize("listener", ["inbound|9100", TCP_PORT])
@pytest.mark.parametrize("said", PLAINTEXT.values(), ids=PLAINTEXT)
def test_plaintext_to_a_strict_port_is_closed(inbound: Arena, listener: str, said: bytes) -> None:
    """Row 42."""
    with Line(connected(inbound.ports[listener], PATIENCE_S)) as line:
        line.send(said)
        line.end()
        assert line.drain() in {CLOSED, RESET}
        assert b"HTTP/" not in line.kept
    assert not inbound.application.snapshot().all_bytes()
    assert not list(good_request(inbound))


ENVOY_TAKES = {
    "an authority's": "Envoy asks a caller's certificate for no basic constraints",
    "two names": "Envoy matches any name of a certificate",
    "two names, another first": "Envoy matches any name of a certificate",
    "trailing slash": "Envoy compares the beginning of names; no exact rule names such an account",
    "a query": "Envoy compares the beginning of names; no exact rule names such an account",
    "dot segments": "Envoy compares the beginning of names; no exact rule names such an account",
}
"""Callers that Envoy lets in by the prefix of their name, and why."""


def test_bad_callers_are_refused(inbound: Arena) -> None:
    """Rows 43 and 44 at the called side."""
    forged = {**certificates(inbound.identities, CALLER), "absent": None}
    taken = {what for what, own in forged.items() if _is_served(inbound, own)}
    assert taken == (set(ENVOY_TAKES) if inbound.plane.name == "envoy" else set())
    assert not list(good_request(inbound))


def _is_served(inbound: Arena, own: Any) -> bool:
    try:
        with inbound.upgraded(presenting(inbound.identities, own)) as line:
            asked = b"GET /x HTTP/1.1\r\nHost: shop\r\n\r\n"
            return converse(line, [asked], 1).statuses == [200]
    except OSError:
        return False


@dataclass(slots=True)
class Calling:
    """A caller's proxy in front of an impostor."""

    arena: Arena
    impostor: Impostor

    def status(self) -> list[int]:
        with self.arena.connect() as line:
            asked = f"GET /x HTTP/1.1\r\nHost: {self.arena.host}\r\n\r\n".encode()
            return converse(line, [asked], 1).statuses


@pytest.fixture
def calling(plane: DataPlane, tmp_path: Path) -> Iterator[Calling]:
    """The caller's side, which expects the backend's account of the server."""
    mesh = Identities()
    good = mesh.issue([x509.UniformResourceIdentifier(SERVER)])
    with Impostor(mesh, good) as impostor:

        def towards(bootstrap: dict[str, Any]) -> None:
            inline = (mesh, "client") if plane.name == "envoy" else None
            for cluster in bootstrap["static_resources"]["clusters"]:
                if cluster["name"].startswith("outbound|80||backend-service"):
                    speak_mesh(cluster, SERVER, impostor.port, inline)

        with arena("outbound", member(plane, mesh, "client", tmp_path), tmp_path, towards) as running:
            yield Calling(running, impostor)


ENVOY_CALLS = {
    "an authority's": "Envoy asks a server's certificate for no basic constraints",
    "two names": "Envoy looks for one of the wanted names among those of the certificate",
    "two names, another first": "Envoy looks for one of the wanted names among those of the certificate",
}
"""Servers that Envoy speaks with although they are none of the mesh, and why."""


def test_bad_servers_hear_nothing(calling: Calling) -> None:
    """Rows 43 and 44 at the caller's side: not one byte of a request goes to such a server."""
    assert calling.status() == [200]
    good = calling.impostor.own
    taken: set[str] = set()
    for what, own in certificates(calling.impostor.mesh, SERVER).items():
        calling.impostor.own, calling.impostor.heard = own, []
        met = calling.impostor.shaken
        if calling.status() != [503] or any(calling.impostor.heard):
            taken.add(what)
        assert calling.impostor.shaken > met, f"{what}: nobody called"
    assert taken == (set(ENVOY_CALLS) if calling.arena.plane.name == "envoy" else set())
    calling.impostor.own = good
    assert calling.status() == [200]

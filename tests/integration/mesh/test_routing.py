"""A canary through real sidecars: the weights, the header, and that nobody gets in without a certificate."""

from __future__ import annotations

import contextlib
import json
import socket
from collections import Counter

from mesh_load import Connection
from mesh_runner import Mesh

AUTHORITY = "backend.default.svc.cluster.local:9001"


def test_a_tenth_reaches_v2_and_internal_users_always(mesh: Mesh) -> None:
    connection = Connection(mesh.workload("client")["outbound"], AUTHORITY)
    seen: Counter[str] = Counter()
    for _ in range(2000):
        status, body = connection.get("/x")
        assert status == 200
        seen[json.loads(body)["name"]] += 1
    assert 160 <= seen["v2"] <= 240, seen
    for _ in range(100):
        status, body = connection.get("/x", {"user-type": "internal"})
        assert (status, json.loads(body)["name"]) == (200, "v2")


def test_every_name_of_a_service_leads_to_it(mesh: Mesh) -> None:
    port = mesh.workload("client")["outbound"]
    for host in ("backend", "backend.default", "backend.default.svc", "backend.default.svc.cluster.local"):
        for authority in (host, f"{host}:9001"):
            assert Connection(port, authority).get()[0] == 200, authority
    assert Connection(port, "unknown.default").get()[0] == 502
    through_proxy = mesh.tulle("exec", "client", "--", "curl", "-sS", "http://backend.default:9001/y")
    assert json.loads(through_proxy.stdout)["path"] == "/y"


def test_the_exit_status_of_exec_is_the_commands(mesh: Mesh) -> None:
    assert mesh.tulle("exec", "client", "--", "sh", "-c", "exit 7").returncode == 7
    assert mesh.tulle("exec", "client", "--", "no-such-program").returncode == 127
    assert mesh.tulle("exec", "nobody", "--", "true").returncode == 1


def test_plaintext_to_an_inbound_port_gets_nothing(mesh: Mesh) -> None:
    with socket.create_connection(("127.0.0.1", mesh.workload("backend-v1")["inbound"]), 10) as plain:
        plain.settimeout(10)
        plain.sendall(b"GET / HTTP/1.1\r\nHost: backend\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = plain.recv(100)
        assert answer == b""

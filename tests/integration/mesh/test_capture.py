"""What passes between two sidecars: TLS 1.3, nothing readable; plaintext is refused, and told where it is taken."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest
from mesh_load import Connection
from mesh_runner import BACKEND, Mesh
from tap import APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, TLS_1_3, Tap, chosen_group, records, versions

MARKS = ("mark-in-the-path", "mark-in-a-header", "mark-in-the-name")

TAPPED = """
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: tap}}
spec:
  address: 127.0.0.1
  ports: {{http: {port}}}
  labels: {{app: tapped, security.istio.io/tlsMode: istio}}
  serviceAccount: backend
---
apiVersion: v1
kind: Service
metadata: {{name: tapped}}
spec:
  selector: {{app: tapped}}
  ports: [{{name: http, port: 80}}]
---
apiVersion: tulle.dev/v1alpha1
kind: MeshSettings
metadata: {{name: mesh}}
spec: {{egress: {{allowedAddresses: [127.0.0.0/8]}}}}
"""

PERMISSIVE = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: backend}
spec: {selector: {matchLabels: {app: backend}}, mtls: {mode: PERMISSIVE}}
"""


def inbound(mesh: Mesh, workload: str) -> int:
    """Where the workload's sidecar listens for its first port."""
    return int(mesh.placed(workload)["inbound"][0]["listen"])


@pytest.fixture(scope="module")
def tap() -> Iterator[Tap]:
    with Tap() as tap:
        yield tap


@pytest.fixture(scope="module")
def standing_mesh(tap: Tap, tmp_path_factory: pytest.TempPathFactory, data_plane: str) -> Iterator[Mesh]:
    """The service `tapped` is backend-v1 through the tap."""
    config = BACKEND.replace("NAME: v1", f"NAME: {MARKS[2]}") + TAPPED.format(port=tap.port)
    with Mesh.running(tmp_path_factory.mktemp("standing") / "mesh", config, data_plane) as mesh:
        tap.target = inbound(mesh, "backend-v1")
        yield mesh


def test_between_sidecars_is_tls_1_3_and_nothing_readable(mesh: Mesh, tap: Tap) -> None:
    connection = Connection(int(mesh.workload("client")["outbound"]), "tapped")
    status, body = connection.get(f"/{MARKS[0]}", {"x-mark": MARKS[1]})
    assert (status, json.loads(body)) == (200, {"name": MARKS[2], "path": f"/{MARKS[0]}"})
    captured = [(bytes(sent), bytes(received)) for sent, received in tap.seen]
    assert captured
    for sent, received in captured:
        assert not any(mark.encode() in data for mark in MARKS for data in (sent, received))
        (first, client_hello), *further = records(sent)
        assert (first, versions(client_hello)) == (HANDSHAKE, TLS_1_3)
        (first, server_hello), *answers = records(received)
        assert (first, versions(server_hello)) == (HANDSHAKE, TLS_1_3)
        kinds = {kind for kind, _ in (*further, *answers)}
        assert APPLICATION_DATA in kinds
        assert kinds <= {APPLICATION_DATA, CHANGE_CIPHER_SPEC}


CURVES = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    meshMTLS: {{ecdhCurves: [{curve}]}}
"""


@pytest.mark.parametrize(("curve", "number"), [("X25519MLKEM768", 0x11EC), ("P-384", 24)])
def test_the_key_exchange_is_the_one_that_the_mesh_asks_for(mesh: Mesh, tap: Tap, curve: str, number: int) -> None:
    """The hybrid one (draft-ietf-tls-ecdhe-mlkem), and another, which shows that the setting decides."""
    mesh.apply(CURVES.format(curve=curve), "--wait", "30")
    before = len(tap.seen)
    assert Connection(int(mesh.workload("client")["outbound"]), "tapped").get()[0] == 200
    captured = [bytes(received) for _, received in tap.seen[before:]]
    hellos = [hello for received in captured for kind, hello in records(received) if kind == HANDSHAKE]
    assert [chosen_group(hello) for hello in hellos] == [number]


def test_plaintext_is_refused_until_a_policy_takes_it_and_then_reported(mesh: Mesh) -> None:
    port = inbound(mesh, "backend-v1")
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(100) == b""
    told = json.loads(mesh.tulle("mtls", "report", "-o", "json").stdout)
    assert (told["edges"], told["workloads"], told["silent"]) == ([], [], [])
    mesh.apply(PERMISSIVE, "--wait", "30")

    def answered() -> bool:
        try:
            return Connection(port, "backend").get()[0] == 200
        except OSError:
            return False

    mesh.until(answered, "plaintext is taken")
    told = json.loads(mesh.tulle("mtls", "report", "-o", "json").stdout)
    [edge] = told["edges"]
    assert (edge["source"], edge["destination"]) == ("unknown", "backend-v1")
    assert edge["plaintext"] >= 1
    judged = {each["workload"]: each for each in told["workloads"]}
    assert judged.keys() == {"backend-v1", "backend-v2"}
    assert not judged["backend-v1"]["ready"]
    assert "in plaintext" in judged["backend-v1"]["advice"]
    ports = {(each["workload"], each["mode"]) for each in told["ports"]}
    assert ports == {("backend-v1", "permissive"), ("backend-v2", "permissive")}
    assert "not ready for STRICT" in mesh.tulle("mtls", "report").stdout

"""Kinds beside Service and VirtualService: local upstream ports over TCP, and endpoints that run elsewhere."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest
from mesh_load import Connection
from mesh_runner import TCP, TCP_ECHO, StartMesh

ELSEWHERE = """
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {{name: client, labels: {{app: client}}}}
spec: {{serviceAccount: client}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: old-1}}
spec: {{address: 127.0.0.1, ports: {{http: {port}}}, labels: {{app: old}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: old}}
spec:
  selector: {{app: old}}
  ports: [{{name: http, port: 80}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: outside}}
spec:
  hosts: [api.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: tulle.dev/v1alpha1
kind: MeshSettings
metadata: {{name: mesh}}
spec: {{egress: {{allowedAddresses: [127.0.0.0/8]}}}}
"""


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """The port of an HTTP server that is no part of any mesh; it answers with the Host it was asked for."""

    class Host(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            body = self.headers["host"].encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_upstream_port_carries_tcp(start_mesh: StartMesh) -> None:
    mesh = start_mesh(TCP, {"upper.py": TCP_ECHO})
    port = mesh.placed("client")["upstreams"][0]["local_port"]
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        lines = connection.makefile("rw")
        for word in ("hello", "again"):
            lines.write(f"{word}\n")
            lines.flush()
            assert lines.readline() == f"{word.upper()}\n"


def test_endpoints_elsewhere_get_plaintext(start_mesh: StartMesh, elsewhere: int) -> None:
    mesh = start_mesh(ELSEWHERE.format(port=elsewhere))
    port = mesh.workload("client")["outbound"]
    assert Connection(port, "old.default").get() == (200, b"old.default")
    assert Connection(port, "api.example.com").get() == (200, b"api.example.com")

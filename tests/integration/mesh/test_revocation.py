"""A revoked workload: no new handshake within two seconds, nothing left open within five, whatever the protocol."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
from mesh_peers import Stranger
from mesh_runner import Mesh

from tulle.identity.bundle_document import write
from tulle.identity.ca import Authority

HANDSHAKES, LIVE = 2, 5
"""Seconds after a revocation in which handshakes are refused, and live connections are cut."""
OTHER = "other.example"
TICKS = 1200
"""Of an exchange that would go on for a minute."""

SERVER = '''
import http.server, socketserver, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import grpc

def ticks(count):
    for _ in range(int(count)):
        yield b"tick"
        time.sleep(0.05)

class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        try:
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for tick in ticks(self.path[1:] or 1):
                self.wfile.write(b"4\\r\\n" + tick + b"\\r\\n")
            self.wfile.write(b"0\\r\\n\\r\\n")
        except OSError:
            self.close_connection = True
    def log_message(self, *args): pass

class Upper(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            for line in self.rfile:
                self.wfile.write(line.upper())
        except OSError:
            pass

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

http_port, grpc_port, tcp_port = map(int, sys.argv[1:])
stream = grpc.unary_stream_rpc_method_handler(lambda count, context: ticks(count))
server = grpc.server(ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Live", {"Ticks": stream}),))
server.add_insecure_port(f"127.0.0.1:{grpc_port}")
server.start()
threading.Thread(target=Server(("127.0.0.1", tcp_port), Upper).serve_forever, daemon=True).start()
Server(("127.0.0.1", http_port), Http).serve_forever()
'''
PROGRAMS = {"live.py": SERVER}
CONFIG = f"""
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {{name: client, labels: {{app: client}}}}
spec:
  serviceAccount: client
  upstreams: [{{service: upper, port: 7000, localPort: 0}}]
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {{name: server, labels: {{app: server}}}}
spec:
  serviceAccount: server
  ports: [{{name: http, port: 0}}, {{name: grpc, port: 0}}, {{name: tcp, port: 0}}]
  command: [{sys.executable}, live.py, $(PORT_HTTP), $(PORT_GRPC), $(PORT_TCP)]
---
apiVersion: v1
kind: Service
metadata: {{name: ticks}}
spec:
  selector: {{app: server}}
  ports: [{{name: http, port: 9001, targetPort: http}}]
---
apiVersion: v1
kind: Service
metadata: {{name: multiplexed}}
spec:
  selector: {{app: server}}
  ports: [{{name: http, port: 9002, targetPort: http}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: multiplexed}}
spec:
  host: multiplexed
  trafficPolicy: {{connectionPool: {{http: {{h2UpgradePolicy: UPGRADE}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: streams}}
spec:
  selector: {{app: server}}
  ports: [{{name: grpc, port: 9003, targetPort: grpc}}]
---
apiVersion: v1
kind: Service
metadata: {{name: upper}}
spec:
  selector: {{app: server}}
  ports: [{{name: tcp, port: 7000, targetPort: tcp}}]
"""


def http(port: int, authority: str) -> Iterator[bytes]:
    """A response that takes a minute."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(f"GET /{TICKS} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
            if b"tick" in received:
                yield chunk


def grpc_stream(port: int, authority: str) -> Iterator[bytes]:
    """A stream of answers that takes a minute."""
    options = [("grpc.default_authority", authority), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield from channel.unary_stream("/test.Live/Ticks")(str(TICKS).encode(), timeout=120)


def tcp(port: int) -> Iterator[str]:
    """A connection on which something is said all the time."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        lines = connection.makefile("rw")
        for _ in range(TICKS):
            lines.write("tick\n")
            lines.flush()
            if lines.readline() != "TICK\n":
                return
            yield "tick"
            time.sleep(0.05)  # the pace of the exchange, which would take a minute


class Live(threading.Thread):
    """An exchange that is held open; `begun` is set once something has come."""

    def __init__(self, exchange: Callable[[], Iterator[object]]) -> None:
        super().__init__(daemon=True)
        self.begun = threading.Event()
        self._exchange = exchange
        self.start()

    def run(self) -> None:
        try:
            for _ in self._exchange():
                self.begun.set()
        except (OSError, grpc.RpcError):
            return


def all_open(mesh: Mesh) -> dict[str, Live]:
    """An exchange of the client's with the server by every protocol, all of them under way."""
    outbound, local = mesh.placed("client")["outbound"], mesh.placed("client")["upstreams"][0]["local_port"]
    live = {
        "HTTP/1.1": Live(lambda: http(outbound, "ticks:9001")),
        "HTTP/2": Live(lambda: http(outbound, "multiplexed:9002")),
        "gRPC": Live(lambda: grpc_stream(outbound, "streams:9003")),
        "TCP": Live(lambda: tcp(local)),
    }
    for name, each in live.items():
        assert each.begun.wait(30), f"{name} does not begin"
    return live


def still_open(live: dict[str, Live], since: float) -> list[str]:
    """What has not come to its end in the time that a revocation may take."""
    for each in live.values():
        each.join(max(0.0, since + LIVE - time.monotonic()))
    return [name for name, each in live.items() if each.is_alive()]


def test_whatever_a_revoked_caller_has_open_is_cut(mesh: Mesh, tmp_path: Path) -> None:
    inbound = {each["name"]: each["listen"] for each in mesh.placed("server")["inbound"]}
    impostor = Stranger.with_identity_of(mesh, "client", tmp_path)
    assert impostor.is_served(inbound["http"], "/1")
    live = all_open(mesh)
    assert mesh.tulle("workload", "revoke", "default/client").returncode == 0
    at = time.monotonic()
    mesh.until(lambda: not impostor.is_served(inbound["http"], "/1"), "no handshake is accepted", HANDSHAKES)
    assert still_open(live, at) == []
    assert not impostor.is_served(inbound["http"], "/1"), "nor later"


def test_a_revoked_caller_is_cut_while_other_meshes_are_known_too(mesh: Mesh, tmp_path: Path) -> None:
    """Then Envoy checks certificates with a validator that looks at no revocation lists."""
    inbound = {each["name"]: each["listen"] for each in mesh.placed("server")["inbound"]}
    theirs = Authority.open(tmp_path / "theirs", OTHER, datetime.now(UTC))
    member, impostor = Stranger.of(tmp_path, theirs, OTHER), Stranger.with_identity_of(mesh, "client", tmp_path)
    (tmp_path / "bundle.json").write_text(write(theirs.root_pem, 1))
    assert mesh.tulle("federation", "add", OTHER, "--bundle", str(tmp_path / "bundle.json")).returncode == 0
    try:
        mesh.until(lambda: member.is_served(inbound["http"], "/1"), "the other mesh is known")
        assert impostor.is_served(inbound["http"], "/1")
        live = all_open(mesh)
        assert mesh.tulle("workload", "revoke", "default/client").returncode == 0
        at = time.monotonic()
        mesh.until(lambda: not impostor.is_served(inbound["http"], "/1"), "nothing is served", HANDSHAKES)
        assert still_open(live, at) == []
        assert member.is_served(inbound["http"], "/1"), "nobody else is meant"
        assert not impostor.is_served(inbound["http"], "/1"), "nor later"
    finally:
        assert mesh.tulle("federation", "remove", OTHER).returncode == 0


def test_whatever_is_open_with_a_revoked_server_is_cut(mesh: Mesh) -> None:
    live = all_open(mesh)
    assert mesh.tulle("workload", "revoke", "default/server").returncode == 0
    assert still_open(live, time.monotonic()) == []

"""The static Envoy configuration that people copy runs as it stands, as a real process."""

from __future__ import annotations

import http.client
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tulle.supervisor.programs import tulle_proxy

# As printed in introductions to service meshes, except that the upstream is `localhost` and ports are free ones.
CONFIGURATION = """
# Envoy configuration (simplified)
static_resources:
  listeners:
  - name: listener_0
    address:
      socket_address:
        address: 0.0.0.0
        port_value: {listen}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress_http
          route_config:
            name: local_route
            virtual_hosts:
            - name: backend
              domains: ["*"]
              routes:
              - match:
                  prefix: "/"
                route:
                  cluster: backend_cluster
                  timeout: 5s
                  retry_policy:
                    retry_on: "5xx"
                    num_retries: 3
          http_filters:
          - name: envoy.filters.http.router

  clusters:
  - name: backend_cluster
    connect_timeout: 1s
    type: STRICT_DNS
    lb_policy: ROUND_ROBIN
    load_assignment:
      cluster_name: backend_cluster
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address:
                address: localhost
                port_value: {upstream}
    # Health checking
    health_checks:
    - timeout: 1s
      interval: 5s
      unhealthy_threshold: 3
      healthy_threshold: 2
      http_health_check:
        path: "/health"
    # Circuit breaking
    circuit_breakers:
      thresholds:
      - priority: DEFAULT
        max_connections: 1000
        max_pending_requests: 100
        max_requests: 1000
        max_retries: 3
"""
# Not of the printed text: where the tests look inside.
ADMIN = """
admin:
  address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}
"""


@dataclass
class Backend:
    """A server that remembers paths, refuses /bad, keeps /slow waiting, and is as healthy as it is told."""

    seen: list[tuple[str, str]] = field(default_factory=list)
    healthy: bool = True
    hold: threading.Event = field(default_factory=threading.Event)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                backend.seen.append((self.path, self.headers.get("user-agent", "")))
                if self.path == "/slow":
                    backend.hold.wait(20)
                well = backend.healthy if self.path == "/health" else self.path != "/bad"
                self.send_response(200 if well else 503)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def count(self, path: str) -> int:
        return sum(seen == path for seen, _ in self.seen)


@dataclass
class Proxy:
    """The running proxy."""

    backend: Backend
    port: int
    admin: int

    def get(self, path: str) -> tuple[int, str]:
        return _get(self.port, path)

    def clusters(self) -> str:
        return _get(self.admin, "/clusters")[1]


def _get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_ready(process: subprocess.Popen[bytes], admin: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if _get(admin, "/ready")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.02)
    pytest.fail("tulle-proxy did not become ready")


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def proxy(tmp_path: Path, backend: Backend) -> Iterator[Proxy]:
    program = tulle_proxy()
    if program is None:
        pytest.fail("tulle-proxy is not built: run 'make build'")
    server = ThreadingHTTPServer(("127.0.0.1", 0), backend.handler())
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    listen, admin = _free_ports(2)
    text = (CONFIGURATION + ADMIN).format(listen=listen, upstream=server.server_address[1], admin=admin)
    config = tmp_path / "envoy.yaml"
    config.write_text(text)
    process = subprocess.Popen([program, "-c", str(config)])
    try:
        _wait_ready(process, admin)
        yield Proxy(backend, listen, admin)
    finally:
        backend.hold.set()
        process.terminate()
        process.wait(20)
        server.shutdown()
        server.server_close()


def test_requests_pass_and_the_host_was_checked_first(proxy: Proxy) -> None:
    assert proxy.backend.seen == [("/health", "Envoy/HC")]
    assert proxy.get("/")[0] == 200
    flags = [line for line in proxy.clusters().splitlines() if "health_flags" in line]
    assert [line.split("::")[-1] for line in flags] == ["healthy"]


def test_three_retries_follow_a_server_error(proxy: Proxy) -> None:
    assert proxy.get("/bad")[0] == 503
    assert proxy.backend.count("/bad") == 4


def test_a_request_takes_five_seconds_at_most(proxy: Proxy) -> None:
    before = time.monotonic()
    assert proxy.get("/slow") == (504, "upstream request timeout")
    assert time.monotonic() - before >= 4.9


def test_limits_are_those_of_the_file(proxy: Proxy) -> None:
    shown = proxy.clusters()
    for name, limit in (("connections", 1000), ("pending_requests", 100), ("requests", 1000), ("retries", 3)):
        assert f"backend_cluster::default_priority::max_{name}::{limit}\n" in shown


class TestUnhealthy:
    """A host that fails its first check."""

    @pytest.fixture
    def backend(self) -> Backend:
        return Backend(healthy=False)

    def test_it_is_marked_and_used_only_because_there_is_no_other(self, proxy: Proxy) -> None:
        assert "::health_flags::/failed_active_hc\n" in proxy.clusters()
        # Envoy's panic threshold, 50 % by default: with every host failing, all are used.
        assert proxy.get("/")[0] == 200


def test_a_certificate_that_cannot_be_read_is_refused_at_the_start(tmp_path: Path) -> None:
    config = tmp_path / "envoy.yaml"
    tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    missing = tmp_path / "missing.pem"
    config.write_text(
        "static_resources: {clusters: [{name: one, transport_socket: {name: tls, typed_config: "
        f'{{"@type": {tls}, common_tls_context: {{validation_context: '
        f"{{trusted_ca: {{filename: {missing}}}}}}}}}}}}}]}}"
    )
    command = [str(tulle_proxy()), "-c", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert f'static_resources.clusters: "one": cannot read {missing}' in ended.stderr

"""An authorizer over gRPC (envoy.service.auth.v3): what it is told, and what its answers do, on both proxies."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from harness.grpc_services import Unary, cluster, extension, grpc_cluster, http_listener, serving
from harness.proxies import DATA_PLANES, DataPlane, PortHolder, running
from tulle.protos import message

AUTHZ = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
CHECK = "/envoy.service.auth.v3.Authorization/Check"
RESPONSE = message("envoy.service.auth.v3.CheckResponse")


class App(http.server.BaseHTTPRequestHandler):
    """The application: writes down the request line and head."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, dict[str, str], bytes]] = []  # noqa: RUF012 (one server per process and test)

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


def bootstrap(ports: tuple[int, int], app: int, authorizer: int) -> dict[str, Any]:
    """Two listeners: one that fails closed, one that fails open."""
    per_route = {
        "@type": f"type.googleapis.com/{AUTHZ}PerRoute",
        "check_settings": {"context_extensions": {"virtual_host": "all"}},
    }
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": "app"},
        "typed_per_filter_config": {"authz": per_route},
    }
    listeners = []
    for name, port in zip(("closed", "open"), ports, strict=True):
        fields: dict[str, Any] = {
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": "authz"}, "timeout": "2s"},
            "with_request_body": {"max_request_bytes": 8, "allow_partial_message": True},
            "clear_route_cache": True,
        }
        if name == "open":
            fields |= {"failure_mode_allow": True, "failure_mode_allow_header_add": True}
        listeners.append(http_listener(name, port, [route], [extension("authz", AUTHZ, **fields)]))
    clusters = [cluster("app", app), grpc_cluster("authz", authorizer)]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


@pytest.fixture(params=DATA_PLANES, ids=lambda plane: plane.name)
def plane(request: pytest.FixtureRequest) -> DataPlane:
    chosen: DataPlane = request.param
    if not chosen.available():
        pytest.skip(f"{chosen.name} is not built; make build")
    return chosen


@pytest.fixture
def app() -> Iterator[http.server.ThreadingHTTPServer]:
    App.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), App) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    port: int, method: str = "GET", path: str = "/", body: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, {"x-in": "1", "x-drop": "d", "authorization": "Basic x"})
        response = connection.getresponse()
        return (
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
    finally:
        connection.close()


def allowing(*_: Any) -> Any:
    return RESPONSE(
        ok_response={
            "headers": [
                {"header": {"key": "x-user", "value": "bob"}},
                {"header": {"key": "x-in", "value": "2"}, "append": {"value": True}},
            ],
            "headers_to_remove": ["x-drop"],
            "response_headers_to_add": [{"header": {"key": "x-told", "value": "yes"}}],
            "query_parameters_to_set": [{"key": "a", "value": "2"}],
            "query_parameters_to_remove": ["b"],
        }
    )


def refusing(*_: Any) -> Any:
    return RESPONSE(
        status={"code": 16},
        denied_response={
            "status": {"code": 401},
            "headers": [{"header": {"key": "x-why", "value": "because"}}],
            "body": "go away",
        },
    )


@pytest.mark.integration
def test_what_is_asked_and_what_is_answered(
    plane: DataPlane, app: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    authorizer = Unary(CHECK, "envoy.service.auth.v3.CheckRequest", lambda *_: RESPONSE())
    with serving(authorizer) as at, contextlib.closing(PortHolder()) as ports:
        closed, open_ = ports(), ports()
        config = bootstrap((closed, open_), app.server_port, at)
        with running(plane, config, [closed, open_], tmp_path) as process:
            _questions(authorizer, closed)
            _answers(authorizer, closed)
            _failures(authorizer, closed, open_)
            assert process.poll() is None


def _questions(authorizer: Unary, port: int) -> None:
    assert ask(port, "POST", "/a?b=1", "hello world")[0] == 200
    (asked,) = (call.attributes for call in authorizer.asked)
    request = asked.request.http
    assert (request.method, request.path, request.host) == ("POST", "/a?b=1", f"127.0.0.1:{port}")
    assert (request.body, request.protocol, request.size) == ("hello wo", "HTTP/1.1", 11)
    assert request.headers[":method"] == "POST"
    assert request.headers["authorization"] == "Basic x"
    assert dict(asked.context_extensions) == {"virtual_host": "all"}
    assert asked.destination.address.socket_address.port_value == port
    assert asked.source.address.socket_address.address == "127.0.0.1"
    assert App.seen[-1][2] == b"hello world", "the whole body goes on"


def _answers(authorizer: Unary, port: int) -> None:
    authorizer.answer = allowing
    status, headers, _ = ask(port, path="/x?a=1&b=1&c=1")
    path, seen, _ = App.seen[-1]
    assert (status, headers.get("x-told")) == (200, "yes")
    assert (seen["x-user"], seen["x-in"], "x-drop" in seen) == ("bob", "1,2", False)
    assert sorted(path.partition("?")[2].split("&")) == ["a=2", "c=1"]
    authorizer.answer = refusing
    before = len(App.seen)
    status, headers, body = ask(port)
    assert (status, headers["x-why"], body) == (401, "because", b"go away")
    authorizer.answer = lambda *_: RESPONSE(status={"code": 7})
    assert ask(port)[0] == 403
    assert len(App.seen) == before


def _failures(authorizer: Unary, closed: int, open_: int) -> None:
    def aborting(_request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")

    release = threading.Event()

    def silent(_request: Any, _context: grpc.ServicerContext) -> Any:
        release.wait(20)
        return RESPONSE()

    for answer in (aborting, silent):
        authorizer.answer = answer
        before = len(App.seen)
        assert ask(closed)[0] == 403
        assert len(App.seen) == before
        assert ask(open_)[0] == 200
        assert App.seen[-1][1]["x-envoy-auth-failure-mode-allowed"] == "true"
    release.set()

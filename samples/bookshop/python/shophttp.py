"""Serve JSON handlers over the standard library's HTTP/1.1 server: what the shop's Python services share."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

UPSTREAM_TIMEOUT_S = 5.0
"""How long one call to another service of the shop may take, in seconds."""

LINGER_S = 1.0
"""How long a stopping server still answers on connections that are open but idle, in seconds."""

MAX_BODY_BYTES = 1 << 20


class UpstreamFailed(Exception):
    """Another service of the shop did not give the answer this one needs; `status` is what it said, or 502."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request as a handler sees it: the last path segment is `item`, the body is parsed JSON or None."""

    method: str
    path: str
    item: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Reply:
    """A status code and the JSON document that goes with it."""

    status: int
    document: Any


Handler = Callable[[Request], Reply]
Routes = dict[tuple[str, str], Handler]
"""Keys are (method, path); a path ending in `/*` takes one more segment, the request's `item`."""


def fetch(base: str, path: str) -> Any:
    """GET `base + path` and return the JSON document; raises UpstreamFailed for anything but a 2xx answer."""
    return _call(urllib.request.Request(base + path))


def send(base: str, path: str, document: Any) -> Any:
    """POST `document` as JSON to `base + path` and return the answer's document; raises UpstreamFailed."""
    body = json.dumps(document).encode()
    return _call(urllib.request.Request(base + path, body, {"content-type": "application/json"}))


def _call(request: urllib.request.Request) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=UPSTREAM_TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise UpstreamFailed(
                error.code, f"{request.full_url}: {error.read(200).decode(errors='replace')}"
            ) from error
    except (OSError, ValueError) as error:
        raise UpstreamFailed(502, f"{request.full_url}: {error}") from error


def _find(routes: Routes, method: str, path: str) -> tuple[Handler, str] | None:
    exact = routes.get((method, path))
    if exact is not None:
        return exact, ""
    parent, _, item = path.rpartition("/")
    handler = routes.get((method, f"{parent}/*"))
    return (handler, urllib.parse.unquote(item)) if handler is not None and item else None


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
    stopping = False


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave in one segment, as no client should wait for a second one.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server
    routes: Routes

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing per request: the mesh has the access log."""

    def _answer(self) -> None:
        try:
            reply = self._reply()
        except UpstreamFailed as error:
            reply = Reply(error.status, {"error": str(error)})
        except (KeyError, ValueError, TypeError) as error:
            reply = Reply(400, {"error": f"{type(error).__name__}: {error}"})
        body = json.dumps(reply.document).encode() + b"\n"
        self.send_response(reply.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if self.server.stopping:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _reply(self) -> Reply:
        length = int(self.headers.get("content-length", "0"))
        if not 0 <= length <= MAX_BODY_BYTES:
            self.close_connection = True
            return Reply(413, {"error": f"a body may have {MAX_BODY_BYTES} bytes"})
        body = json.loads(self.rfile.read(length)) if length else None
        path = urllib.parse.urlsplit(self.path).path
        if path == "/health":
            return Reply(200, {"status": "up"})
        found = _find(self.routes, self.command, path)
        if found is None:
            return Reply(404, {"error": f"no {self.command} {path}"})
        handler, item = found
        headers = {name.lower(): value for name, value in self.headers.items()}
        return handler(Request(self.command, path, item, headers, body))


def serve(name: str, port: int, routes: Routes) -> None:
    """Serve `routes` on 127.0.0.1:`port` (0 is any free one) until SIGTERM or SIGINT.

    A stopping server takes no new connection, answers what arrives on the open ones with `connection: close`, and
    returns when it has waited LINGER_S for them.
    """
    server = _Server(("127.0.0.1", port), type("Connection", (_Connection,), {"routes": routes}))
    # Waited for rather than handled: a handler that wakes the main thread may find it holding the lock it needs.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    print(f"{name}: listening on 127.0.0.1:{server.server_address[1]}", flush=True)
    signal.sigwait(signals)
    server.stopping = True
    server.shutdown()
    server.socket.close()
    time.sleep(LINGER_S)
    print(f"{name}: stopped", file=sys.stderr, flush=True)

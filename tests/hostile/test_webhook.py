"""The admission webhook under attack (row 61): whatever comes, an error is answered and the next good review too."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from attack.forged import certificates, presenting
from attack.positions import peak_from_here, resident
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.control_planes import WORKLOADS, ControlPlane, control_plane
from harness.identities import Identities, Identity

PATIENCE = 60.0
NAME = "tulle-webhook.tulle-system.svc"
PATH = "/v1/webhook/validate"
LIMIT = 4 * 1024 * 1024
MEMORY = 160 << 20
"""What one attack may take above what there was before it, even for a moment."""

SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {selector: {app: front}, ports: [{name: http, port: 80}]}
"""

JSON = {"content-type": "application/json"}


def review(route: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A review of a VirtualService, as Kubernetes sends it; what is given replaces parts of its request."""
    spec = {"hosts": ["front"], "http": [{"route": [{"destination": {"host": "front"}}], **(route or {})}]}
    kind = {"group": "networking.istio.io", "version": "v1", "kind": "VirtualService"}
    request = {
        "uid": "u-1", "kind": kind, "resource": {**kind, "resource": "virtualservices"}, "name": "r",
        "namespace": "shop", "operation": "CREATE", "userInfo": {"username": "admin"}, "dryRun": False,
        "object": {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                   "metadata": {"name": "r", "namespace": "shop"}, "spec": spec},
        "oldObject": None, "options": None, **more,
    }  # fmt: skip
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


GOOD = json.dumps(review()).encode()


@dataclass
class Webhook:
    """A control plane with a webhook, a token for it, and the authority of its clients' certificates."""

    plane: ControlPlane
    clients: Identities
    token: str = ""
    certificate: Identity | None = None
    tokens: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return urlsplit(self.plane.ready["webhook"]).port or 0

    @property
    def pid(self) -> int:
        assert self.plane.process is not None
        return self.plane.process.pid

    def another_token(self) -> str:
        """Of the least role."""
        self.tokens += 1
        made = self.plane.tulle("token", "create", f"kube-apiserver-{self.tokens}")
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def context(self, own: Identity | None = None) -> ssl.SSLContext:
        """A client that trusts the mesh's roots, as `caBundle` has them."""
        context = presenting(self.clients, own)
        context.load_verify_locations(self.plane.state / "ca" / "root.pem")
        context.check_hostname = True
        return context

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def connect(self, own: Identity | None = None) -> ssl.SSLSocket:
        """A connection after its handshake."""
        return self.context(own).wrap_socket(self.raw(), server_hostname=NAME)

    def ask(
        self, body: bytes, headers: dict[str, str] | None = None, path: str = PATH, own: Identity | None = None
    ) -> tuple[int, Any]:
        """The status and the answer to one POST, on a connection of its own."""
        given = self.headers if headers is None else headers
        head = "".join(f"{name}: {value}\r\n" for name, value in {"content-length": str(len(body)), **given}.items())
        with self.connect(own) as line:
            # Who is refused at the door is not listened to any more.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                line.sendall(f"POST {path} HTTP/1.1\r\nhost: {NAME}\r\n{head}\r\n".encode() + body)
            return answered(line)


def answered(line: ssl.SSLSocket, method: str = "POST") -> tuple[int, Any]:
    """The status of one answer, and what it says; 0 where the connection ends without any."""
    answer = http.client.HTTPResponse(line, method=method)
    try:
        answer.begin()
        text = answer.read()
    except (OSError, http.client.HTTPException):
        return 0, None
    try:
        return answer.status, json.loads(text)
    except ValueError:
        return answer.status, text


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    folder = tmp_path_factory.mktemp("webhook")
    clients = Identities()
    (folder / "clients.pem").write_text(clients.root)
    more = ["--webhook", "127.0.0.1:0", "--webhook-name", NAME, "--webhook-client-ca", str(folder / "clients.pem")]
    with control_plane(folder / "plane", WORKLOADS + SERVICE, more) as running:
        found = Webhook(running, clients)
        found.token = found.another_token()
        found.certificate = clients.issue([x509.DNSName("kube-apiserver")])
        found.headers = {**JSON, "authorization": f"Bearer {found.token}"}
        yield found


@pytest.fixture(autouse=True)
def unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each attack the next good review is answered, and memory was bounded."""
    if "hook" not in request.fixturenames:
        yield
        return
    found: Webhook = request.getfixturevalue("hook")
    before, _ = resident(found.pid)
    peak_from_here(found.pid)
    yield
    assert_good(found)
    _, peak = resident(found.pid)
    assert peak - before < MEMORY, f"resident memory rose by {(peak - before) >> 20} MiB"
    assert "Traceback" not in found.plane.log
    assert found.token not in found.plane.log


def assert_good(hook: Webhook) -> None:
    """By certificate, which no limit of the token's counts."""
    status, answer = hook.ask(GOOD, JSON, own=hook.certificate)
    assert (status, answer) == (200, {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                                      "response": {"uid": "u-1", "allowed": True}})  # fmt: skip


@pytest.mark.parametrize("path", [PATH, "/validate", f"{PATH}?timeout=10s"])
def test_good_and_bad_objects_get_their_verdicts(hook: Webhook, path: str) -> None:
    assert hook.ask(GOOD, path=path)[1]["response"]["allowed"]
    with hook.connect() as line:
        for timeout, allowed in (("1s", True), ("soon", False), ("2s", True)):
            body = json.dumps(review({"timeout": timeout})).encode()
            sent = {**hook.headers, "host": NAME, "content-length": str(len(body))}
            head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
            line.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            status, answer = answered(line)
            assert (status, answer["response"]["allowed"]) == (200, allowed)
            if not allowed:
                said = answer["response"]["status"]
                assert said["code"] == 422
                assert "VirtualService shop/r: spec.http[0].timeout" in said["message"]


def test_nothing_is_ever_stored(hook: Webhook) -> None:
    before = hook.plane.tulle("status", "-o", "json")
    revision = json.loads(before.stdout)["control_plane"]["revision"]
    for operation in ("CREATE", "UPDATE", "DELETE"):
        assert hook.ask(json.dumps(review(operation=operation)).encode())[1]["response"]["allowed"]
    assert json.loads(hook.plane.tulle("get", "vs", "-A", "-o", "json").stdout)["items"] == []
    after = json.loads(hook.plane.tulle("status", "-o", "json").stdout)
    assert after["control_plane"]["revision"] == revision


@pytest.mark.parametrize(
    "sent",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer "}, {"authorization": "Basic a3ViZTprdWJl"},
     {"authorization": "bearer"}, {"x-remote-user": "admin", "x-forwarded-client-cert": "Subject=\"CN=kube\""}],
    ids=["none", "wrong", "empty", "basic", "no token", "said to be"],
)  # fmt: skip
def test_nobody_is_let_in_unknown(hook: Webhook, sent: dict[str, str]) -> None:
    status, answer = hook.ask(GOOD, {**JSON, **sent})
    assert status in {401, 429}, answer
    assert "response" not in answer


def test_a_bad_token_is_not_passed_over_for_a_certificate(hook: Webhook) -> None:
    assert hook.ask(GOOD, {**JSON, "authorization": "Bearer wrong"}, own=hook.certificate)[0] in {401, 429}


def test_a_revoked_token_lets_nobody_in(hook: Webhook) -> None:
    token = hook.another_token()
    sent = {**JSON, "authorization": f"Bearer {token}"}
    assert hook.ask(GOOD, sent)[0] == 200
    assert hook.plane.tulle("token", "revoke", f"kube-apiserver-{hook.tokens}").returncode == 0
    assert hook.ask(GOOD, sent)[0] in {401, 429}


@pytest.mark.parametrize("what", ["expired", "not yet valid", "foreign", "self-signed", "for another use"])
def test_bad_certificates_fail_the_handshake(hook: Webhook, what: str) -> None:
    own = certificates(hook.clients, "spiffe://cluster.local/ns/default/sa/client")[what]
    # With TLS 1.3 the client hears of it with the first bytes that it reads.
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert hook.ask(GOOD, JSON, own=own)[0] == 0


def test_a_member_of_the_mesh_is_no_api_server(hook: Webhook) -> None:
    """The mesh's own authority vouches for workloads, not for the webhook's clients."""
    folder = hook.plane.folder / "member"
    folder.mkdir()
    bare = Identities()
    member = bare.identity("default", "client")
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert hook.ask(GOOD, JSON, own=member)[0] == 0


def changed(**more: Any) -> bytes:
    return json.dumps({**review(), **more}).encode()


BOMB = gzip.compress(b" " * (64 << 20))
FORMS: dict[str, tuple[dict[str, str], bytes, int]] = {
    "nothing": ({}, b"", 400),
    "no JSON": ({}, b"\x00\x01\x02garbage", 400),
    "cut off": ({}, GOOD[:-10], 400),
    "two documents": ({}, GOOD + GOOD, 400),
    "YAML": ({}, b"apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\n", 400),
    "not UTF-8": ({}, GOOD.replace(b"front", b"fr\xff\xfet"), 400),
    "a list": ({}, b"[" + GOOD + b"]", 400),
    "null": ({}, b"null", 400),
    "deep lists": ({}, b"[" * 1_000_000, 400),
    "deep mappings": ({}, b'{"a":' * 500_000, 400),
    "a deep object": ({}, json.dumps(review()).replace("null", "[" * 100_000 + "]" * 100_000, 1).encode(), 400),
    "another version": ({}, changed(apiVersion="admission.k8s.io/v1beta1"), 400),
    "another group": ({}, changed(apiVersion="authorization.k8s.io/v1"), 400),
    "another kind": ({}, changed(kind="ConversionReview"), 400),
    "no request": ({}, changed(request=None), 400),
    "a response": ({}, changed(request=None, response={"uid": "u-1", "allowed": True}), 400),
    "no uid": ({}, GOOD.replace(b'"uid"', b'"id"'), 400),
    "an empty uid": ({}, json.dumps(review(uid="")).encode(), 400),
    "a huge uid": ({}, json.dumps(review(uid="x" * 1_000_000)).encode(), 400),
    "an odd operation": ({}, json.dumps(review(operation="PATCH")).encode(), 400),
    "kind is text": ({}, json.dumps(review(kind="VirtualService")).encode(), 400),
    "a long number": ({}, GOOD.replace(b'"dryRun": false', b'"dryRun": ' + b"9" * 100_000), 200),
    "a form": ({"content-type": "application/x-www-form-urlencoded"}, GOOD, 415),
    "no type": ({"content-type": ""}, GOOD, 415),
    "protobuf": ({"content-type": "application/vnd.kubernetes.protobuf"}, GOOD, 415),
    "a compressed bomb": ({"content-encoding": "gzip"}, BOMB, 415),
    "two codings": ({"content-encoding": "identity, gzip"}, BOMB, 415),
    "too large": ({}, GOOD + b" " * LIMIT, 413),
    "just small enough": ({}, GOOD + b" " * (LIMIT - len(GOOD)), 200),
    "many values": ({}, json.dumps(review(object=[[]] * 1_000_000)).encode(), 200),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_review_is_refused(hook: Webhook, form: str) -> None:
    headers, body, status = FORMS[form]
    found, answer = hook.ask(body, {**hook.headers, **headers})
    assert found == status or (found, status) == (0, 413), answer
    if status == 200 and form == "many values":
        assert answer["response"]["allowed"] is False


def test_what_is_refused_at_the_door_costs_no_body(hook: Webhook) -> None:
    """The answer is there before the body: too large by its own account, of a stranger, of the wrong type."""
    huge = {**hook.headers, "content-length": str(1 << 40)}
    stranger = {**JSON, "content-length": str(LIMIT)}
    form = {**hook.headers, "content-type": "text/plain", "content-length": str(LIMIT)}
    for headers, statuses in ((huge, {413}), (stranger, {401, 429}), (form, {415})):
        with hook.connect() as line:
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            line.sendall(f"POST {PATH} HTTP/1.1\r\nhost: {NAME}\r\n{head}\r\n".encode())
            assert answered(line)[0] in statuses
            assert line.recv(1) == b"", "closed"


def test_a_body_without_end_is_cut_at_the_limit(hook: Webhook) -> None:
    with hook.connect() as line:
        head = "".join(f"{name}: {value}\r\n" for name, value in hook.headers.items())
        line.sendall(f"POST {PATH} HTTP/1.1\r\nhost: {NAME}\r\ntransfer-encoding: chunked\r\n{head}\r\n".encode())
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 64 << 20:
                line.sendall(chunk)
                sent += len(chunk)
        assert sent < 64 << 20, "nobody reads all of that"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_there_is_one_method(hook: Webhook, method: str) -> None:
    with hook.connect() as line:
        sent = {**hook.headers, "content-length": "0"}
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        line.sendall(f"{method} {PATH} HTTP/1.1\r\nhost: {NAME}\r\n{head}\r\n".encode())
        assert answered(line, method)[0] == 405


@pytest.mark.parametrize("path", ["/", "/v1/apply", "/v1/status", "/metrics", "/inject", "/v1/webhook/../apply"])
def test_nothing_else_is_there(hook: Webhook, path: str) -> None:
    assert hook.ask(GOOD, path=path)[0] == 404


def test_a_web_page_gets_nothing(hook: Webhook) -> None:
    assert hook.ask(GOOD, {**hook.headers, "origin": "https://evil.example"})[0] == 403


@pytest.mark.parametrize(
    "text",
    [b"\x00" * 1000, b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000,
     b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 9000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
     b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"],
    ids=["zeros", "nothing", "a version", "a line", "headers", "HTTP/2", "two lengths"],
)  # fmt: skip
def test_what_is_no_http_is_refused(hook: Webhook, text: bytes) -> None:
    with hook.connect() as line, contextlib.suppress(OSError):
        line.sendall(text)
        line.settimeout(PATIENCE)
        first = line.recv(12)
        assert not first.startswith(b"HTTP/1.1 2"), first


@pytest.mark.parametrize(
    "text",
    [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000, b"\x16\x03\x01\x00\x05hello",
     b"\x80" * 100, b"\x15\x03\x03\x00\x02\x02\x28"],
    ids=["plain HTTP", "a huge record", "no hello", "SSL 2", "an alert"],
)  # fmt: skip
def test_what_is_no_tls_is_harmless(hook: Webhook, text: bytes) -> None:
    with hook.raw() as line, contextlib.suppress(OSError):
        line.sendall(text)
        while more := line.recv(1000):
            assert b"HTTP/1.1 2" not in more


def test_tls_below_1_3_is_refused(hook: Webhook) -> None:
    context = hook.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with hook.raw() as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(raw, server_hostname=NAME)


def dripped(line: socket.socket, text: bytes) -> bytes:
    """What is heard until the other end has had enough; a byte is sent whenever nothing is heard for a while."""
    heard, at = b"", 0
    line.settimeout(0.2)
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError, BrokenPipeError):
        while at < len(text):
            try:
                more = line.recv(1000)
            except TimeoutError:
                line.sendall(text[at : at + 1])
                at += 1
                continue
            if not more:
                return heard
            heard += more
    assert at < len(text), "all the time in the world"
    return heard


def test_the_slow_are_timed_out_and_keep_nobody_waiting(hook: Webhook) -> None:
    """At once: a handshake that does not begin, one that stops, silence after it, a slow head, and a slow body."""
    sent = {**hook.headers, "content-length": "100000"}
    head = f"POST {PATH} HTTP/1.1\r\nhost: {NAME}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    long = b"x" * 1000

    def silent(line: socket.socket) -> bytes:
        line.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
            return line.recv(1000)
        return b""

    def body(line: socket.socket) -> bytes:
        line.sendall(f"{head}\r\n".encode())
        return dripped(line, long)

    def half_a_hello(line: socket.socket) -> bytes:
        line.sendall(b"\x16\x03\x01\x02\x00\x01")
        return silent(line)

    slow = [
        (hook.raw(), silent), (hook.raw(), half_a_hello), (hook.connect(), silent),
        (hook.connect(), lambda line: dripped(line, head.encode() + long)), (hook.connect(), body),
    ]  # fmt: skip
    with ThreadPoolExecutor(len(slow)) as pool:
        waiting = [pool.submit(act, line) for line, act in slow]
        assert_good(hook)
        heard = [each.result(PATIENCE) for each in waiting]
    for line, _ in slow:
        line.close()
    assert heard[:4] == [b""] * 4
    assert heard[4].startswith(b"HTTP/1.1 408")


def test_a_crowd_of_strangers_keeps_nobody_out(hook: Webhook) -> None:
    """More connections than are held at once, in plaintext and after the handshake: the oldest go."""
    with contextlib.ExitStack() as stack:
        plain = [stack.enter_context(hook.raw()) for _ in range(150)]
        shaken = [stack.enter_context(hook.connect()) for _ in range(80)]
        assert_good(hook)
        for line in (plain[0], shaken[0]):
            line.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
                assert line.recv(1) == b""


def test_those_who_leave_in_the_middle_leave_nothing_behind(hook: Webhook) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in {**hook.headers, "content-length": "100000"}.items())
    for ending in (b"", b"{" * 1000):
        for _ in range(20):
            with hook.connect() as line:
                line.sendall(f"POST {PATH} HTTP/1.1\r\nhost: {NAME}\r\n{head}\r\n".encode() + ending)


def test_who_asks_too_often_waits_and_others_do_not(hook: Webhook) -> None:
    sent = {**JSON, "authorization": f"Bearer {hook.another_token()}", "content-length": "2", "host": NAME}
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    body = json.dumps(review(kind={"group": "apps", "version": "v1", "kind": "Deployment"})).encode()
    whole = f"POST {PATH} HTTP/1.1\r\n{head}\r\n".replace("length: 2", f"length: {len(body)}").encode() + body
    heard = b""
    with hook.connect() as line:
        for sent_so_far in range(50, 5001, 50):
            line.sendall(whole * 50)
            while heard.count(b"HTTP/1.1 ") < sent_so_far and b"HTTP/1.1 429" not in heard:
                heard += line.recv(1 << 16)
            if b"HTTP/1.1 429" in heard:
                break
    assert heard.count(b"HTTP/1.1 200") >= 300
    assert b"HTTP/1.1 429" in heard
    assert hook.ask(GOOD)[0] == 200


def test_the_printed_manifest_leads_here(hook: Webhook) -> None:
    """By its URL, with the roots in it, to a webhook that reads every kind it names."""
    url = f"https://localhost:{hook.port}"
    printed = hook.plane.tulle("webhook", "manifest", "--url", url, "-o", "json")
    assert printed.returncode == 0, printed.stderr
    asked = set()
    for each in json.loads(printed.stdout)["webhooks"]:
        client = each["clientConfig"]
        roots = ssl.create_default_context(cadata=base64.b64decode(client["caBundle"]).decode())
        target = urlsplit(client["url"])
        with hook.raw() as raw, roots.wrap_socket(raw, server_hostname=target.hostname) as line:
            head = "".join(f"{name}: {value}\r\n" for name, value in hook.headers.items())
            text = f"POST {target.path} HTTP/1.1\r\nhost: {NAME}\r\n{head}content-length: {len(GOOD)}\r\n\r\n"
            line.sendall(text.encode() + GOOD)
            assert answered(line)[0] == 200
        asked |= {resource for rule in each["rules"] for resource in rule["resources"]}
    assert {"virtualservices", "services", "configmaps", "workloads", "servers", "trafficsplits"} <= asked


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=2000) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["apiVersion", "kind", "request", "uid", "object", "metadata", "name"]) | st.text(), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_is_sent_is_answered(hook: Webhook, body: bytes) -> None:
    assert hook.ask(body, JSON, own=hook.certificate)[0] in {400, 429}


def test_it_does_not_open_where_nobody_could_be_let_in(tmp_path: Path) -> None:
    (tmp_path / "garbage.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for more, said in (
        ([], "tulle token create"),
        (["--webhook-client-ca", str(tmp_path / "nowhere.pem")], "nowhere.pem: cannot be read"),
        (["--webhook-client-ca", str(tmp_path / "garbage.pem")], "garbage.pem: cannot be read"),
    ):
        folder = tmp_path / said
        folder.mkdir()
        assert said in ControlPlane(folder, ["--webhook", "127.0.0.1:0", *more]).refuses_to_start()

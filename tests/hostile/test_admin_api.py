"""The admin API under attack (rows 55 and 56): other users, web pages, the network, tokens with too few rights."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from harness.control_planes import ControlPlane, control_plane

NOBODY = 65534
ROUTE = """
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {{name: rule, namespace: {namespace}}}
spec: {{host: front.{namespace}.svc.cluster.local}}
"""
ASK = """
import encodings.idna, http.client, os, sys
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
connection = http.client.HTTPConnection(sys.argv[1])
for method, path in [("POST", "/v1/workloads/shop/front/join-token"), ("GET", "/v1/workloads"), ("GET", "/v1/audit")]:
    connection.request(method, path)
    answer = connection.getresponse()
    print(answer.status, answer.read())
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("admin") / "local") as running:
        yield running


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One that listens beyond loopback."""
    with control_plane(tmp_path_factory.mktemp("admin") / "remote", more=["--api", "0.0.0.0:0"]) as running:
        yield running


def ask(
    plane: ControlPlane, method: str, path: str, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """A request of the control plane's own user."""
    connection = http.client.HTTPConnection(urlsplit(plane.ready["api"]).netloc, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_this_machine_gets_nothing(plane: ControlPlane) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASK, urlsplit(plane.ready["api"]).netloc],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert asked.stdout.count("401 ") == 3, asked.stdout + asked.stderr
    assert f"user {NOBODY}" in asked.stdout
    assert not [
        each
        for each in json.loads(plane.tulle("audit", "-o", "json").stdout)["events"]
        if each["event"] == "token-created"
    ]


def test_the_owners_token_is_readable_by_the_owner_alone(plane: ControlPlane) -> None:
    kept = plane.state / "api.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "token" not in plane.ready, "the ready file may be anywhere"
    token = json.loads(kept.read_text())["token"]
    assert token not in plane.log
    assert ask(plane, "GET", "/v1/audit", {"authorization": f"Bearer {token}"})[0] == 200
    assert ask(plane, "GET", "/v1/audit", {"authorization": f"Bearer {token[:-1]}"})[0] == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_a_web_page_gets_nothing(plane: ControlPlane, headers: dict[str, str]) -> None:
    token = "/v1/workloads/shop/front/join-token"
    for method, path in (("POST", token), ("DELETE", "/v1/placements"), ("GET", "/v1/ca")):
        assert ask(plane, method, path, headers)[0] == 403


def test_there_is_no_websocket_to_hijack(plane: ControlPlane) -> None:
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for path in ("/v1/watch2", "/", "/v1/ca"):
        assert ask(plane, "GET", path, upgrade)[0] != 101


@pytest.mark.parametrize("path", ["/shutdown", "/quitquitquit", "/debug/pprof", "/docs", "/v1/../api.json"])
def test_there_is_nothing_to_shut_down_or_profile(plane: ControlPlane, path: str) -> None:
    for method in ("GET", "POST"):
        assert ask(plane, method, path)[0] in {404, 405}


def test_roles_hold(plane: ControlPlane) -> None:
    made = [
        plane.tulle("token", "create", "reader"),
        plane.tulle("token", "create", "shopkeeper", "--role", "edit", "-n", "shop", "--expires", "1h"),
    ]
    assert [each.returncode for each in made] == [0, 0], made
    reader, shopkeeper = ({"TULLE_TOKEN": each.stdout.strip()} for each in made)
    mine, other = ROUTE.format(namespace="shop"), ROUTE.format(namespace="bank")
    assert plane.tulle("get", "dr", "-A", **reader).returncode == 0
    both = mine + "---" + other
    for text, who, status in (
        (mine, reader, 1),
        (mine, shopkeeper, 0),
        (other, shopkeeper, 1),
        (both, shopkeeper, 1),
    ):
        done = plane.tulle("apply", "-f", "-", text=text, **who)
        assert done.returncode == status, done.stderr
    assert "may change nothing in namespace bank" in done.stderr
    for words in (["ca", "rotate"], ["audit"], ["token", "list"], ["workload", "revoke", "bank/till"]):
        assert plane.tulle(*words, **shopkeeper).returncode == 1, words
    assert "swordfish" not in plane.tulle("get", "wl", "-A", "-o", "yaml", **reader).stdout
    assert "swordfish" in plane.tulle("get", "wl", "-A", "-o", "yaml", **shopkeeper).stdout
    assert plane.tulle("token", "revoke", "shopkeeper").returncode == 0
    assert plane.tulle("delete", "dr", "rule", "-n", "shop", **shopkeeper).returncode == 1
    events = json.loads(plane.tulle("audit", "-o", "json").stdout)["events"]
    changed = next(each for each in events if each["event"] == "objects-changed")
    assert "token shopkeeper" in changed["origin"], "who and from where"
    for each in (reader, shopkeeper):
        assert each["TULLE_TOKEN"] not in plane.log


def test_join_tokens_and_placements_are_audited_with_who_asked(plane: ControlPlane) -> None:
    assert ask(plane, "POST", "/v1/workloads/shop/front/join-token")[0] == 200
    [event] = [
        each
        for each in json.loads(plane.tulle("audit", "-o", "json").stdout)["events"]
        if each["event"] == "token-created"
    ][:1]
    assert (event["subject"], event["origin"].rpartition(" ")[2]) == ("shop/front", str(os.getuid()))


def test_beyond_loopback_there_is_tls_and_nobody_is_let_in_without_a_token(remote: ControlPlane) -> None:
    address = urlsplit(remote.ready["api"])
    assert address.scheme == "https"
    api, roots = f"https://127.0.0.1:{address.port}", str(remote.state / "ca" / "root.pem")
    owner = json.loads((remote.state / "api.json").read_text())["token"]
    for token, roots_file, status in ((owner, roots, 0), ("wrong", roots, 1), ("", roots, 1), (owner, "", 3)):
        secrets = {"TULLE_TOKEN": token, **({"TULLE_CA_FILE": roots_file} if roots_file else {})}
        done = remote.tulle("ca", "status", TULLE_API=api, **secrets)
        assert done.returncode == status, done.stderr
    with socket.create_connection(("127.0.0.1", address.port or 0), 10) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" not in plain.recv(1000)


def test_tls_below_1_3_is_refused(remote: ControlPlane) -> None:
    context = ssl.create_default_context(cafile=str(remote.state / "ca" / "root.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", urlsplit(remote.ready["api"]).port or 0), 10) as raw,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(raw, server_hostname="tulle-control-plane")


def test_strangers_are_slowed_down(remote: ControlPlane) -> None:
    context = ssl.create_default_context(cafile=str(remote.state / "ca" / "root.pem"))
    port = urlsplit(remote.ready["api"]).port or 0
    context.check_hostname = False
    found: list[int] = []
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    while 429 not in found and len(found) < 200:
        connection.request("GET", "/v1/ca", headers={"authorization": "Bearer guess"})
        answer = connection.getresponse()
        answer.read()
        found.append(answer.status)
    connection.close()
    assert set(found) == {401, 429}

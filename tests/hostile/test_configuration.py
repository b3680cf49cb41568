"""Rows 58 and 59: configuration that is made to break its reader is refused with its place, at the command line and by
the admin API, for next to nothing; and what is accepted costs a proxy no more than it should.
"""

from __future__ import annotations

import gzip
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from attack.positions import Arena, arena
from attack.wire import converse
from case_harness.compilation import MESH, compile_alone

from harness.control_planes import ControlPlane, control_plane
from harness.proxies import DataPlane
from tulle.controlplane.offline import check

CPU_S = 1.0
"""Processor time, not wall-clock: a refusal that first built what is described would take many times this."""

SHOP = """
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {serviceAccount: web, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
"""
TO = "route: [{destination: {host: web}}]"


def virtual_service(http: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: shop}}
spec:
  hosts: [web]
  http: [{{{http}}}]
"""


def by_path(regex: str) -> str:
    return virtual_service(f"match: [{{uri: {{regex: '{regex}'}}}}], {TO}")


def weighted(*weights: int) -> str:
    return virtual_service(
        f"route: [{', '.join(f'{{destination: {{host: web}}, weight: {w}}}' for w in weights)}]"
    )


def service(ports: str) -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: other, namespace: shop}}
spec: {{ports: [{ports}]}}
"""


def workload(rest: str) -> str:
    return f"""
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {{name: other, namespace: shop}}
spec: {{serviceAccount: other, {rest}}}
"""


LOCAL = "{host: web, port: 80, localPort: 7}"
REFUSED = {
    "a weight that overflows": weighted(1 << 32, 1),
    "weights that overflow together": weighted(2147483647, 2147483647, 2147483647),
    "a weight below zero": weighted(-1, 1),
    "weights of nothing": weighted(0, 0),
    "a port twice": service("{name: a, port: 80}, {name: b, port: 80}"),
    "a port's name twice": service("{name: a, port: 80}, {name: a, port: 81}"),
    "port 0": service("{name: a, port: 0}"),
    "port 65536": service("{name: a, port: 65536}"),
    "a workload's port twice": workload("ports: [{name: a, port: 1}, {name: b, port: 1}]"),
    "a local port twice": workload(f"upstreams: [{LOCAL}, {LOCAL}]"),
    "a back reference": by_path(r"(a)\1"),
    "a look-ahead": by_path("(?=a)b"),
    "a conditional": by_path("(a)?(?(1)b|c)"),
    "an open group": by_path("(a"),
    "a repetition of nothing": by_path("*a"),
    "a long repetition": by_path("a{1001}"),
    "repetitions in repetitions": by_path("((a{100}){100}){100}"),
    "a regex of 1 MiB": by_path("a|" * (1 << 19)),
    "1 MiB of groups": by_path("(" * (1 << 19) + ")" * (1 << 19)),
    "a header's name": virtual_service(f'match: [{{headers: {{"a b": {{exact: x}}}}}}], {TO}'),
    "a line in a header": virtual_service(f'headers: {{request: {{set: {{x: "a\\r\\nb: c"}}}}}}, {TO}'),
    "a time-out beyond time": virtual_service(f"timeout: 99999999999999h, {TO}"),
    "a time-out below zero": virtual_service(f"timeout: -1s, {TO}"),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_with_its_place(text: str) -> None:
    """Row 58."""
    before = time.process_time()
    found = check([("shop.yaml", SHOP), ("evil.yaml", text)])
    spent = time.process_time() - before
    assert found.errors, "it was accepted"
    for each in found.findings:
        assert each.source.file == "evil.yaml"
        assert each.source.line > 1
        assert len(str(each)) < 1000, "a message does not repeat what is hostile"
    assert spent < CPU_S


CIRCLES = {
    "delegates": virtual_service("delegate: {name: web, namespace: shop}"),
    "a split over itself": """
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: web, namespace: shop}
spec: {service: web, backends: [{service: web, weight: 1}]}
""",
    "fallbacks": "".join(
        f"""---
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {{name: {one}, namespace: shop}}
spec:
  host: {one}
  circuitBreaker: {{fallback: {{service: {{host: {other}, port: 80}}}}}}
"""
        for one, other in (("web", "again"), ("again", "web"))
    )
    + "---"
    + service("{name: http, port: 80}").replace("other", "again"),
    "a mirror of itself": virtual_service(f"mirrors: [{{destination: {{host: web}}}}], {TO}"),
}


@pytest.mark.parametrize("text", CIRCLES.values(), ids=CIRCLES)
def test_references_in_a_circle_end(text: str) -> None:
    """Row 58: what refers to itself compiles, or is refused, and in either case soon."""
    before = time.process_time()
    found = check([("shop.yaml", SHOP), ("circle.yaml", text)])
    assert time.process_time() - before < CPU_S
    assert all(each.source.file == "circle.yaml" for each in found.findings)


EXPONENTIAL = {
    "nested": r"/(a+)+b",
    "alternatives": r"/(a|a)*b",
    "optional": "/(a?){500}a{400}b",
    "dots": "/(.*)*(.*)*(.*)*b",
}


@pytest.fixture(params=EXPONENTIAL.values(), ids=EXPONENTIAL)
def matching(request: pytest.FixtureRequest, plane: DataPlane, tmp_path: Path) -> Iterator[Arena]:
    """A caller whose routes have a regex that backtracking engines take forever with."""
    routes = (
        by_path(request.param)
        .replace("namespace: shop", "namespace: default")
        .replace("web", "backend-service")
    )
    compiled = compile_alone(f"{MESH.read_text()}---{routes}")
    assert not [
        each for each in compiled.diagnostics if each.source.file == "alone.yaml" and each.severity == "error"
    ]
    with arena("outbound", plane, tmp_path, compilation=compiled) as running:
        yield running


@pytest.mark.integration
def test_a_regex_takes_linear_time(matching: Arena) -> None:
    """Row 58: no path makes an engine try everything; the answer comes, and it is "no route" or a served one."""
    for path in ("/" + "a" * 4000, "/" + "a" * 4000 + "b"):
        with matching.connect() as line:
            asked = f"GET {path} HTTP/1.1\r\nHost: {matching.host}\r\n\r\n".encode()
            heard = converse(line, [asked], 1)
        assert heard.statuses in ([404], [200]), heard
    assert matching.alive() is None


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("configuration") / "plane") as running:
        yield running


HEAD = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: shop}\n"
TEXTS = {
    "an alias bomb": HEAD
    + "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)),
    "a merge bomb": HEAD
    + "a0: &a0 {k: v}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 10)}], k{n}: v}}\n" for n in range(1, 12)),
    "an alias of itself": HEAD + "spec: &a {hosts: *a}\n",
    "deep nesting": HEAD + "spec: " + "[" * 100_000,
    "a tag": HEAD + "spec: !!python/object/apply:os.system [id]\n",
    "a key twice": HEAD + "spec: {hosts: [a], hosts: [b]}\n",
    "NUL": HEAD + "spec: {hosts: [a\0]}\n",
    "a surrogate": HEAD + 'spec: {hosts: ["\\ud800"]}\n',
}


@pytest.mark.integration
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts_that_are_bombs_are_refused(control: ControlPlane, text: str) -> None:
    """Row 59: by the admin API, as by the command line, with the place; and it answers the next."""
    assert control.process is not None
    before = _cpu(control.process.pid)
    body = json.dumps({"documents": [{"file": "evil.yaml", "text": text}]})
    status, said = _post(control, "/v1/apply", body.encode())
    assert 400 <= status < 500, (status, said[:300])
    applied = control.tulle("apply", "-f", "-", text=text)
    assert applied.returncode != 0
    assert "Traceback" not in applied.stderr + control.log
    assert _cpu(control.process.pid) - before < CPU_S
    assert control.tulle("status").returncode == 0


def _cpu(pid: int) -> float:
    """The processor time a process has taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _post(control: ControlPlane, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(control.ready["api"]).netloc, timeout=20)
    try:
        connection.request("POST", path, body, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.integration
def test_a_compressed_bomb_is_not_opened(control: ControlPlane) -> None:
    """Row 59: 256 MiB in a few hundred KiB, once and twice compressed."""
    assert control.process is not None
    once = gzip.compress(bytes(1 << 28), 9)
    for bomb in (once, gzip.compress(once, 9)):
        before, held = _cpu(control.process.pid), _resident(control.process.pid)
        status, said = _post(control, "/v1/apply", bomb, **{"content-encoding": "gzip"})
        assert 400 <= status < 500, (status, said[:300])
        assert _cpu(control.process.pid) - before < CPU_S
        assert _resident(control.process.pid) - held < 64 << 20
    assert control.tulle("status").returncode == 0


def _resident(pid: int) -> int:
    """The highest resident memory of a process so far, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

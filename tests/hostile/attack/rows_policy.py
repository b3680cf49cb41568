"""Rows 29–39 over HTTP/1.1: what tries to get around a rule on paths, hosts or headers, or to be somebody else."""

from __future__ import annotations

from collections.abc import Iterator

from attack.outcome import Blocked, Either, Outcome, Passed, Refused, absent, has, lacks, once
from attack.rows_h1 import request
from attack.table import HOST, Attack, slug
from attack.upstream import Asked

GUARDED = ("inbound", "gateway")
"""Where access rules are; an outbound listener only routes."""


def get(path: bytes, fields: bytes = b"", host: bytes = HOST) -> bytes:
    """A request for a path."""
    return request(fields, line=b"GET " + path + b" HTTP/1.1", host=b"Host: " + host + b"\r\n")


def unchanged(path: bytes) -> Outcome:
    """Served as it was asked for."""
    return Passed(path.decode("latin-1"))


KEPT_OUT = Blocked((400, 403, 404, 307))


def paths() -> Iterator[Attack]:
    """Rows 29 to 32."""
    for path in (
        b"/x/../admin", b"/x/%2e%2e/admin", b"/x/%2E./admin", b"/./admin", b"/x/y/../../admin", b"/../admin",
        b"/%61dmin", b"/admin?x", b"/x/../admin?y=/..", b"/admin/.", b"/admin/x/..", b"/%2e/admin", b"/x/.%2e/admin/y",
    ):  # fmt: skip
        yield Attack(29, slug(path.decode()), (get(path),), KEPT_OUT)
    yield Attack(29, "query", (get(b"/x?/../admin"),), Passed("/x?/../admin"))
    yield Attack(29, "dots in names", (get(b"/..x/.y/z.."),), Passed("/..x/.y/z.."))
    for path in (
        b"//admin", b"///admin", b"/x/..//admin", b"/\\admin", b"/x/..\\admin", b"/x\\..\\admin", b"/x%2f..%2fadmin",
        b"/x/..%2fadmin", b"/x%5c..%5cadmin", b"/%2fadmin", b"/x/..%5Cadmin", b"/x/%2e%2e%2fadmin", b"/admin%2fx",
        b"/x%2F%2E%2E%2Fadmin",
    ):  # fmt: skip
        yield Attack(30, slug(path.decode()), (get(path),), KEPT_OUT, GUARDED)
        routed = Either([Passed(None, [not_kept_out]), KEPT_OUT])
        yield Attack(30, slug(path.decode()), (get(path),), routed, ("outbound",))
    for path in (
        b"/u/..;a=b/admin",
        b"/u/..;/admin",
        b"/admin;x",
        b"/admin;x=y/z",
        b"/;x/admin",
    ):
        yield Attack(31, slug(path.decode()), (get(path),), KEPT_OUT, GUARDED)
        yield Attack(
            31, slug(path.decode()), (get(path),), Either([unchanged(path), KEPT_OUT]), ("outbound",)
        )
    yield Attack(30, "a parent of nothing", (get(b"/x//../admin"),), Passed("/x/admin"))
    yield Attack(
        31, "dot with a parameter", (get(b"/u/.;/../admin"),), Either([Passed("/u/admin"), KEPT_OUT])
    )
    yield Attack(31, "harmless", (get(b"/x;v=1/y"),), Passed("/x;v=1/y"))
    for path in (
        b"/%00", b"/admin%00", b"/%zz", b"/x%", b"/x%2", b"/%c0%ae%c0%ae/admin", b"/%c1%9c/x", b"/%252e%252e/admin",
        b"/x%252fadmin", b"/%ff",
    ):  # fmt: skip
        yield Attack(32, slug(path.decode()), (get(path),), Either([unchanged(path), Refused()]))
    for path in (b"/%%32e%%32e/admin", b"/%2%65%2%65/admin", b"/%2%65%%32e/admin"):
        outcome = Either([Passed("/%252e%252e/admin"), KEPT_OUT, Refused()])
        yield Attack(32, slug(path.decode()), (get(path),), outcome)
    for path in (b"/x#f", b"/#/../admin", b"/\xc0\xae\xc0\xae/admin", b"/\x80", b"/x\x7f"):
        yield Attack(32, slug(path.decode("latin-1")), (get(path),), Refused())
    yield Attack(32, "NUL then dots", (get(b"/x%00/../admin"),), KEPT_OUT)


def not_kept_out(asked: Asked, host: str) -> str | None:
    """What is forwarded is what was routed: not a path that a rule of the route table is about."""
    kept_out = asked.path == "/admin" or asked.path.startswith("/admin/")
    return f"{asked.path} was forwarded" if kept_out else None


def hosts() -> Iterator[Attack]:
    """Rows 33 and 36."""
    for host in (
        b"secret.example",
        b"SECRET.example",
        b"secret.EXAMPLE:80",
        b"secret.example.",
        b"secret.example.:80",
    ):
        yield Attack(33, slug(host.decode()), (get(b"/x", host=host),), Blocked((403,)), GUARDED)
        absolute = request(line=b"GET http://" + host + b"/x HTTP/1.1")
        yield Attack(33, "absolute " + slug(host.decode()), (absolute,), Blocked((403,)), GUARDED)
    good = {b"BACKEND-service": "outbound", b"backend-service.": "outbound", b"backend-service:80": "outbound",
            b"Shop.EXAMPLE": "gateway", b"shop.example.": "gateway", b"shop.example:80": "gateway"}  # fmt: skip
    for host, position in good.items():
        yield Attack(33, slug(host.decode()), (get(b"/x", host=host),), Passed("/x"), (position,))  # type: ignore[arg-type]
    yield Attack(36, "dot is literal", (get(b"/v1X0/y"),), Passed("/v1X0/y"))
    for path in (b"/v1.0/y", b"/v1.0/*", b"/v1.0/{*}", b"/v1.0/."):
        outcome = KEPT_OUT if path != b"/v1.0/." else Either([Passed("/v1.0/"), KEPT_OUT])
        yield Attack(36, slug(path.decode()), (get(path),), outcome)
    for host in (b"*", b"*.example", b".", b"backend*", b"shop.exampl?", b"shopXexample"):
        refused = Either([Blocked((400, 403, 404, 502)), Refused()])
        yield Attack(
            36, "host " + slug(host.decode()), (get(b"/x", host=host),), refused, ("outbound", "gateway")
        )


def headers() -> Iterator[Attack]:
    """Rows 34, 35 and 37."""
    for name, fields in {
        "first": b"X-Role: blocked\r\nX-Role: ok\r\n",
        "last": b"X-Role: ok\r\nX-Role: blocked\r\n",
        "middle": b"X-Role: ok\r\nx-role: blocked\r\nX-ROLE: ok\r\n",
        "alone": b"X-Role: blocked\r\n",
        "padded": b"X-Role: \t blocked \t\r\n",
    }.items():
        yield Attack(34, name, (get(b"/x", fields),), Blocked((403,)))
    for value in (b"caf\xe9", b"\x80", b"ab!\xff", b"a!b"):
        fields = b"X-Team: " + value + b"\r\n"
        yield Attack(35, "negated " + slug(value.decode("latin-1")), (get(b"/x", fields),), KEPT_OUT)
    for value in (b"/secret/x", b"\xff/secret", b"/\xe9/secret/\x80", b"\xc0\xae/secret"):
        fields = b"X-Path: " + value + b"\r\n"
        yield Attack(35, "plain " + slug(value.decode("latin-1")), (get(b"/x", fields),), KEPT_OUT)
    yield Attack(35, "allowed", (get(b"/x", b"X-Team: caf\xc3\xa9\r\nX-Path: /x\r\n"),), Passed("/x"))
    for name in (b"x_role", b"_", b"content_length", b"x-forwarded_for"):
        fields = name + b": blocked\r\n"
        yield Attack(37, slug(name.decode()), (get(b"/x", fields),), Refused(), ("gateway",))


FORGED = b"By=spiffe://cluster.local/ns/x/sa/y;Hash=00;URI=spiffe://cluster.local/ns/default/sa/admin"
UUID_LENGTH = 36


def forged() -> Iterator[Attack]:
    """Rows 38 and 39."""
    xfcc = b"X-Forwarded-Client-Cert: " + FORGED + b"\r\n"
    for name, fields in {
        "one": xfcc,
        "two": xfcc + xfcc,
        "odd case": xfcc.upper().replace(FORGED.upper(), FORGED),
    }.items():
        own = [
            once("x-forwarded-client-cert"),
            lacks("x-forwarded-client-cert", "sa/admin"),
            names_the_caller,
        ]
        yield Attack(38, f"certificate {name}", (get(b"/x", fields),), Passed("/x", own), ("inbound",))
        gone = [absent("x-forwarded-client-cert")]
        yield Attack(
            38, f"certificate {name}", (get(b"/x", fields),), Passed("/x", gone), ("outbound", "gateway")
        )
    address = b"X-Forwarded-For: 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\nX-Envoy-External-Address: 10.0.0.1\r\n"
    told = [has("x-envoy-external-address", "127.0.0.1"), _ends_with_peer]
    yield Attack(38, "address", (get(b"/x", address),), Passed("/x", told), ("gateway",))
    scheme = b"X-Forwarded-Proto: https\r\n"
    yield Attack(
        38, "scheme", (get(b"/x", scheme),), Passed("/x", [has("x-forwarded-proto", "http")]), ("gateway",)
    )
    internal = (
        b"X-Envoy-Internal: true\r\nX-Envoy-Retry-On: 5xx\r\nX-Envoy-Max-Retries: 99\r\n"
        b"X-Envoy-Upstream-Rq-Timeout-Ms: 1\r\nX-Envoy-Decorator-Operation: x\r\nX-Envoy-Force-Trace: 1\r\n"
        b"X-Envoy-Downstream-Service-Cluster: admin\r\nX-Envoy-Original-Url: http://x/\r\nX-Envoy-Ip-Tags: vip\r\n"
    )
    names = (
        "x-envoy-internal", "x-envoy-retry-on", "x-envoy-max-retries", "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-decorator-operation", "x-envoy-force-trace", "x-envoy-downstream-service-cluster",
        "x-envoy-original-url", "x-envoy-ip-tags",
    )  # fmt: skip
    yield Attack(38, "internal", (get(b"/x", internal),), Passed("/x", [absent(*names)]), ("gateway",))
    for name, value in {
        "plain": b"mine",
        "huge": b"m" * 8000,
        "a UUID": b"00000000-0000-4000-8000-000000000000",
    }.items():
        fields = b"X-Request-Id: " + value + b"\r\n"
        checks = [once("x-request-id"), lacks("x-request-id", value.decode()), uuid]
        yield Attack(39, f"request id {name}", (get(b"/x", fields),), Passed("/x", checks), ("gateway",))
    two = b"X-Request-Id: a\r\nX-Request-Id: b\r\n"
    yield Attack(
        39, "two request ids", (get(b"/x", two),), Passed("/x", [once("x-request-id"), uuid]), ("gateway",)
    )
    for name, fields in {
        "huge B3": b"X-B3-TraceId: " + b"f" * 8000 + b"\r\nX-B3-SpanId: " + b"f" * 8000 + b"\r\n",
        "no B3": b"X-B3-TraceId: zz\r\nX-B3-SpanId: '; --\r\n",
    }.items():
        checks = [lacks("x-b3-traceid", "ffffffffffffffffffffffffffffffffff"), lacks("x-b3-traceid", "zz"),
                  lacks("x-b3-spanid", "fffffffffffffffff"), lacks("x-b3-spanid", "--")]  # fmt: skip
        yield Attack(39, name, (get(b"/x", fields),), Passed("/x", checks), ("gateway",))


def names_the_caller(asked: Asked, host: str) -> str | None:
    found = asked.values("x-forwarded-client-cert")
    wanted = "URI=spiffe://cluster.local/ns/default/sa/attacker"
    return None if all(wanted in value for value in found) else f"{found} does not name the caller"


def _ends_with_peer(asked: Asked, host: str) -> str | None:
    """The last address is the connection's own (Envoy names its machine's instead of a loopback address)."""
    found = asked.values("x-forwarded-for")
    last = found[-1].rpartition(",")[2].strip() if found else ""
    return None if last not in {"", "10.0.0.1"} else f"x-forwarded-for is {found}"


def uuid(asked: Asked, host: str) -> str | None:
    found = asked.values("x-request-id")
    return None if all(len(value) == UUID_LENGTH for value in found) else f"x-request-id is {found}"


ATTACKS = [*paths(), *hosts(), *headers(), *forged()]

"""Rows 29–39 once more, in the forms that published ways around rules took; HTTP/2 gets the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attack.outcome import Blocked, Check, Either, Outcome, Passed, Refused, absent, has, lacks, once
from attack.rows_policy import FORGED, GUARDED, KEPT_OUT, get, names_the_caller, not_kept_out, unchanged, uuid
from attack.table import Attack, slug
from attack.upstream import Asked, Recording
from attack.wire import Heard

SAFE: Outcome = Either([Passed(None, [not_kept_out]), KEPT_OUT, Refused()])
"""Kept out, or forwarded as something that is not what the rule is about."""


def paths() -> Iterator[Attack]:
    """Rows 29 to 32."""
    for path in (
        b"/x/%2e%2E/admin", b"/%2E%2E/admin", b"/admin/../admin", b"/x/./../admin",
        b"/x/.././admin",
        b"/../../../admin", b"/x/y/%2e%2e/%2e%2e/admin", b"/%41%44/../admin", b"/adm%69n",
        b"/%61%64%6d%69%6e", b"/admin/%2e",
        b"/admin/%2e%2e/admin", b"/admin?", b"/admin?x=/../y", b"/.%2e/admin",
        b"/admin/./y/..", b"/%2e%2e%2e/../admin",
    ):  # fmt: skip
        yield Attack(29, "again " + slug(path.decode()), (get(path),), KEPT_OUT)
    for path in (
        b"/x/%252e%252e/../admin",
        b"/x/..%2e/../admin",
        b"/x/...",
        b"/x/..y",
        b"/x/.y/",
        b"/..admin",
        b"/x/%2e%2e%2e",
        b"/x?a=%2e%2e/admin",
        b"/adminx",
        b"/ADMIN",
    ):
        yield Attack(29, "harmless " + slug(path.decode()), (get(path),), SAFE)
    for path in (
        b"////admin", b"//x/..//admin", b"/x//../../admin", b"/\\\\admin", b"\\admin", b"/x\\../admin",
        b"/%5cadmin", b"/%5C%2fadmin",
        b"/admin%5cx", b"/admin\\x", b"/x%5c..%2fadmin", b"/%2f%2fadmin", b"/x/%2e%2e%5cadmin",
        b"/x%2f%2e%2e%2f%2e%2e%2fadmin",
        b"/admin//", b"/admin/%2f", b"//admin//x", b"/.//admin", b"/x%2F..%2F..%2Fadmin%2Fy",
        b"/%2fx%2f..%2fadmin",
    ):  # fmt: skip
        yield Attack(30, "again " + slug(path.decode()), (get(path),), Either([KEPT_OUT, Refused()]), GUARDED)
        yield Attack(30, "again " + slug(path.decode()), (get(path),), SAFE, ("outbound",))
    for path in (
        b"/x/..;/admin", b"/x/..;a/admin", b"/x/..;a=b;c=d/admin", b"/admin;", b"/admin;/", b"/admin;/x",
        b"/;/admin", b"/.;/admin",
        b"/.;x=y/admin", b"/x;y/..;z/admin", b"/x/%2e%2e;/admin", b"/x/..%3b/admin", b"/admin%3bx",
        b"/%61dmin;x", b"/x/;/../admin",
        b"/;a=b/;c=d/admin",
    ):  # fmt: skip
        guarded = Either([KEPT_OUT, Refused(), WithoutParameters()])
        yield Attack(31, "again " + slug(path.decode()), (get(path),), guarded, GUARDED)
        yield Attack(
            31, "again " + slug(path.decode()), (get(path),), Either([unchanged(path), SAFE]), ("outbound",)
        )
    for path in (
        b"/%", b"/x%g0", b"/x%0", b"/%u0061dmin", b"/%C0%AE%C0%AE%C0%AFadmin", b"/%e0%80%ae/admin",
        b"/%f0%80%80%ae/admin",
        b"/%c0%afadmin", b"/admin%20", b"/admin%09", b"/admin%0d%0a", b"/admin%00x", b"/%2561dmin",
        b"/%25%36%31dmin", b"/x/%252e./admin",
        b"/%ef%bc%8fadmin", b"/%e2%88%95admin", b"/%ed%a0%80", b"/%fe%fe/admin", b"/x%23", b"/admin%3f",
        b"/admin%23", b"/%0aadmin",
    ):  # fmt: skip
        yield Attack(32, "again " + slug(path.decode()), (get(path),), Either([unchanged(path), SAFE]))
    for path in (
        b"/admin#",
        b"/admin#x",
        b"/x?y#z",
        b"/x?#",
        b"#",
        b"/\xe9",
        b"/x?\xff",
        b"/x\x01",
        b"/x\x1f",
        b"/x?\x7f",
        b"/x\x85",
    ):
        yield Attack(32, "again " + slug(path.decode("latin-1")), (get(path),), Refused())


@dataclass(frozen=True, slots=True)
class WithoutParameters:
    """Forwarded without the parameters, and not to where the rule keeps everybody from."""

    expected: int = 1

    def faults(self, heard: Heard, received: Recording, host: str) -> Iterable[str]:
        """A path that a server which drops parameters takes for the one kept from."""
        yield from SAFE.faults(heard, received, host)
        for each in received.requests:
            plain = "/".join(part.partition(";")[0] for part in each.path.partition("?")[0].split("/"))
            segments = [part for part in plain.split("/") if part not in {"", "."}]
            if segments[:1] == ["admin"] or ".." in segments:
                yield f"{each.path} was forwarded"


def hosts() -> Iterator[Attack]:
    """Rows 33 and 36."""
    for host in (
        b"SeCrEt.ExAmPlE.:443", b"secret.example:", b"secret.example:0", b"secret.example:99999",
        b"secret.example:http",
        b"secret.example:80:80", b"secret.example.:",
    ):  # fmt: skip
        outcome: Outcome = Either([Blocked((400, 403, 404)), Refused()])
        yield Attack(33, "again " + slug(host.decode()), (get(b"/x", host=host),), outcome, GUARDED)
    for host in (
        b"secret.example..",
        b".secret.example",
        b"[secret.example]",
        b"secret%2eexample",
        b"secret.example%00",
        b"secret.example,",
    ):
        other: Outcome = Either([Blocked((400, 403, 404)), Refused(), Passed("/x", [_not_secret])])
        yield Attack(33, "no such name " + slug(host.decode()), (get(b"/x", host=host),), other, GUARDED)
    for path in (b"/v1%2e0/y", b"/v1%2E0/y", b"/v1.0/%2a", b"/v1.0/y;z", b"/v1.0/y/"):
        yield Attack(36, "again " + slug(path.decode()), (get(path),), Either([KEPT_OUT, SAFE]))
    for path in (b"/v1-0/y", b"/v1%2a0/y", b"/v1/0/y", b"/v1..0/y"):
        yield Attack(36, "literal " + slug(path.decode()), (get(path),), unchanged(path))
    for host in (
        b"**",
        b"*:80",
        b"?",
        b"backend?service",
        b"^.*$",
        b"backend.service",
        b"(backend-service)",
        b"backend-service|x",
        b"%2a",
    ):
        refused: Outcome = Either([Blocked((400, 403, 404, 502, 503)), Refused()])
        yield Attack(
            36,
            "again host " + slug(host.decode()),
            (get(b"/x", host=host),),
            refused,
            ("outbound", "gateway"),
        )


def _not_secret(asked: Asked, host: str) -> str | None:
    found = asked.values("host")[0].lower().partition(":")[0].rstrip(".")
    return f"{found} was forwarded" if found == "secret.example" else None


def headers() -> Iterator[Attack]:
    """Rows 34, 35 and 37."""
    for name, fields in {
        "many before": b"X-Role: ok\r\n" * 50 + b"X-Role: blocked\r\n",
        "many behind": b"X-Role: blocked\r\n" + b"X-Role: ok\r\n" * 50,
        "an empty one first": b"X-Role:\r\nX-Role: blocked\r\n",
        "an empty one last": b"X-Role: blocked\r\nX-Role:\r\n",
        "the same twice": b"X-Role: blocked\r\nX-Role: blocked\r\n",
        "in capitals": b"X-ROLE: blocked\r\n",
        "apart": b"X-Role: ok\r\nX: y\r\nZ: w\r\nX-Role: blocked\r\n",
        "nominated for one hop": b"Connection: x-role\r\nX-Role: blocked\r\n",
    }.items():
        # What is for one hop is taken off first: then nobody is told of it.
        gone: Outcome = Either([Blocked((403,)), Passed("/x", [absent("x-role")]), Refused((400, 403))])
        outcome: Outcome = gone if "nominated" in name else Blocked((403,))
        yield Attack(34, name, (get(b"/x", fields),), outcome)
    for value in (b"\xf0\x9f\x92\xa9!", b"a\x80", b"\x80!", b"\xed\xa0\x80", b"\xc3", b"ok\xfe", b"\xa0"):
        fields = b"X-Team: " + value + b"\r\n"
        yield Attack(35, "again negated " + slug(value.decode("latin-1")), (get(b"/x", fields),), KEPT_OUT)
    for value in (b"\x80secret", b"secret\xff", b"\xc3secret\xa9", b"\xe2\x80secret"):
        fields = b"X-Path: " + value + b"\r\n"
        yield Attack(35, "again plain " + slug(value.decode("latin-1")), (get(b"/x", fields),), KEPT_OUT)
    twice = b"X-Team: ok\r\nX-Team: a!b\r\n"
    yield Attack(35, "the second is the bad one", (get(b"/x", twice),), KEPT_OUT)
    for name in (
        b"x_forwarded_client_cert",
        b"X_Role",
        b"__",
        b"x-_-y",
        b"authorization_",
        b"transfer_encoding",
    ):
        yield Attack(
            37, "again " + slug(name.decode()), (get(b"/x", name + b": ok\r\n"),), Refused(), ("gateway",)
        )


def forged() -> Iterator[Attack]:
    """Row 38."""
    xfcc = b"X-Forwarded-Client-Cert: "
    for name, fields in {
        "with an open quotation": xfcc + b'By=x;Subject="\r\n',
        "empty": xfcc + b"\r\n",
        "three lines": (xfcc + FORGED + b"\r\n") * 3,
        "huge": xfcc + FORGED + b";X=" + b"y" * 8000 + b"\r\n",
        "bytes": xfcc + b"\xff" + FORGED + b"\r\n",
        "nominated": b"Connection: x-forwarded-client-cert\r\n" + xfcc + FORGED + b"\r\n",
    }.items():
        own = [
            once("x-forwarded-client-cert"),
            lacks("x-forwarded-client-cert", "sa/admin"),
            names_the_caller,
        ]
        told: Outcome = Either([Passed("/x", own), Refused((400, 403))])
        yield Attack(38, f"certificate {name}", (get(b"/x", fields),), told, ("inbound",))
        gone: Outcome = Either([Passed("/x", [absent("x-forwarded-client-cert")]), Refused((400, 403))])
        yield Attack(38, f"certificate {name}", (get(b"/x", fields),), gone, ("outbound", "gateway"))
    edge = {
        "two addresses": (
            b"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\n",
            "x-envoy-external-address",
            "127.0.0.1",
        ),
        "external twice": (
            b"X-Envoy-External-Address: 10.0.0.1\r\n" * 2,
            "x-envoy-external-address",
            "127.0.0.1",
        ),
        "nonsense address": (b"X-Forwarded-For: '; --\r\n", "x-envoy-external-address", "127.0.0.1"),
        "two schemes": (
            b"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: https\r\n",
            "x-forwarded-proto",
            "http",
        ),
    }
    for name, (fields, header, value) in edge.items():
        yield Attack(38, name, (get(b"/x", fields),), Passed("/x", [has(header, value)]), ("gateway",))
    internal = ("x-envoy-original-path", "x-envoy-attempt-count", "x-envoy-expected-rq-timeout-ms",
                "x-envoy-hedge-on-per-try-timeout",
                "x-envoy-upstream-alt-stat-name", "x-envoy-retry-grpc-on", "x-envoy-retriable-status-codes",
                "x-envoy-internal")  # fmt: skip
    for name in internal:
        fields = name.encode() + b": 1\r\n"
        checks = [absent(name)] if name not in COUNTED else [_at_most_once(name)]
        yield Attack(38, f"internal {name}", (get(b"/x", fields),), Passed("/x", checks), ("gateway",))


def traces() -> Iterator[Attack]:
    """Row 39."""
    for name, value in {
        "empty": b"",
        "bytes": b"\xff\xfe",
        "markup": b"<script>",
        "quotes": b"'; DROP TABLE x; --",
    }.items():
        checks = [once("x-request-id"), uuid]
        yield Attack(
            39,
            f"request id {name}",
            (get(b"/x", b"X-Request-Id: " + value + b"\r\n"),),
            Passed("/x", checks),
            ("gateway",),
        )
    for name, value in {
        "of zeros": b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
        "of letters": b"zz-" + b"z" * 32 + b"-" + b"z" * 16 + b"-zz",
        "huge": b"00-" + b"f" * 8000 + b"-01", "markup": b"<script>",
    }.items():  # fmt: skip
        checks = [_no_such_trace(value.decode())]
        yield Attack(
            39,
            f"traceparent {name}",
            (get(b"/x", b"traceparent: " + value + b"\r\n"),),
            Passed("/x", checks),
            ("gateway",),
        )


COUNTED = {"x-envoy-expected-rq-timeout-ms", "x-envoy-attempt-count"}
"""What a proxy itself says to upstreams where it is asked to."""


def _at_most_once(name: str) -> Check:
    def check(asked: Asked, host: str) -> str | None:
        found = asked.values(name)
        return f"{name} is {found}" if len(found) > 1 else None

    return check


def _no_such_trace(value: str) -> Check:
    def check(asked: Asked, host: str) -> str | None:
        return "the forged trace went on" if value in asked.values("traceparent") else None

    return check


ATTACKS = [*paths(), *hosts(), *headers(), *forged(), *traces()]

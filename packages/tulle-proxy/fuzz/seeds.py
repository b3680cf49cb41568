"""Writes the corpora's first seeds, by hand and from the configuration cases; what fuzzing has found stays beside them.

Run from the repository's root: `.venv/bin/python packages/tulle-proxy/fuzz/seeds.py`. Seeds with keys or random bytes
(ClientHello, certificate) are written only where there are none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hpack import Encoder

from tulle.protos import from_dict

HERE = Path(__file__).resolve().parent
CASES = HERE.parents[2] / "tests" / "cases"
LARGEST = 1500
"""Bytes of a resource that is taken from the cases."""
KINDS = {
    "clusters": "envoy.config.cluster.v3.Cluster",
    "endpoints": "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "listeners": "envoy.config.listener.v3.Listener",
    "routes": "envoy.config.route.v3.RouteConfiguration",
}

Seeds = dict[str, bytes]

H1_REQUESTS: Seeds = {
    "get": b"GET /a/b?c=d HTTP/1.1\r\nHost: a.example:80\r\nX-A: b\r\nCookie: s=1; t=2\r\n\r\nrest",
    "post": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    "chunked": b"PUT http://b.example/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "upgrade": b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, x-a\r\nUpgrade: websocket\r\nX-A: 1\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "options": b"\r\nOPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\nTE: trailers\r\n\r\n",
}
H1_RESPONSES: Seeds = {
    "ok": b"\2HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: x\r\n\r\nok",
    "chunked": b"\2HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
    "head": b"\0HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    "switch": b"\1HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "old": b"\2HTTP/1.0 204 No Content\r\nConnection: keep-alive\r\n\r\n",
}
H1_BODIES: Seeds = {
    "one": b"\x03" + b"5\r\nhello\r\n0\r\n\r\nGET /",
    "several": b"\x01" + b"1\r\na\r\n0A;x=y\r\n0123456789\r\n000\r\nGrpc-Status: 0\r\nHost: b\r\n\r\n",
    "broken": b"\x07" + b"2\r\nab\r\n1_0\r\n",
}
PATHS: Seeds = {
    "plain": b"\x03/a/b?c=/../d",
    "dots": b"\x0b/a/./b/../../%2e%2E/admin",
    "slashes": b"\x0f//a%2f%5C..\\b//?x",
    "encoded": b"\x01/%61%252e%zz%/%41%7e",
    "redirected": b"\x0a/a%2Fb",
}
AUTHORITIES: Seeds = {
    "name": b"A.Example", "port": b"x.a.example:8080", "six": b"[2001:db8::1]:443", "dot": b"a.example.",
    "prefix": b"a.org:80", "dash": b"x-b.example",
}  # fmt: skip
ROUTED: Seeds = {
    "exact": b"GET /x?y HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "suffix": b"GET /p/q?r HTTP/1.1\r\nHost: b.a.example\r\n\r\n",
    "prefix": b"GET /p/x HTTP/1.1\r\nHost: a.org:80\r\nX-Host: c\r\n\r\n",
    "regex": b"GET /r/a/b/c HTTP/1.1\r\nHost: z\r\n\r\n",
    "matchers": b"GET /?q=xz&r HTTP/1.1\r\nHost: z\r\nX-A: aBc\r\nX-N: 12\r\nX-Cluster: d\r\n\r\n",
    "hashed": b'GET /h?q=1 HTTP/1.1\r\nHost: z\r\nX-User: a\r\nX-User: b\r\nCookie: a=b; s="c d"; s=e\r\n\r\n',
}
TEMPLATES: Seeds = {
    "variables": b"/v1/{a}/x/{b=*/y/**}\n/v1/1/x/2/y/3/4", "stars": b"/*/a/**\n/b/a/c", "plain": b"/a.b\n/a.b",
}  # fmt: skip
TIMEOUTS: Seeds = {unit: b"42" + unit.encode() for unit in "HMSmun"} | {"longest": b"99999999H", "none": b"S"}
PROXIED: Seeds = {
    "tcp4": b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 443\r\nGET /",
    "tcp6": b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
    "unknown": b"PROXY UNKNOWN\r\n",
    "v2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 1, 192, 0, 2, 2, 4, 210, 1, 187]) + b"x",
    "v2-six": b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24" + bytes(range(36)),
    "v2-local": b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\3\4\0\0",
}
TRACES: Seeds = {
    "w3c": b"\x0000-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "later": b"\x0001-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more",
    "b3": b"\x010af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-d-05e3ac9a4f6e3b90",
    "b3-short": b"\x018448eb211c80319c-b7ad6b7169203331",
    "b3-multi": b"\x028448eb211c80319c\n\x03b7ad6b7169203331\n\x0405e3ac9a4f6e3b90\n\x051\n\x060",
}
FORMATS: Seeds = {
    "envoy": b'[%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" '
    b"%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_SENT% %DURATION% %UPSTREAM_HOST%\n",
    "clipped": b"%REQ(USER-AGENT):5% %METADATA(DYNAMIC:a:b)% %RESP(X)% %% %DYNAMIC_METADATA(a:b:c)%",
    "times": b"%START_TIME% %START_TIME(%s.%6f %e %f %j)% %COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%",
    "alone": b"%RESPONSE_CODE%",
    "breaks": b"%START_TIME(%n%t)% %EMIT_TIME(%n)%",
    "grpc": b"%GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "whole": b"%CLUSTER_METADATA(a)% %METADATA(CLUSTER:a:b)% %TRAILER(a?b):9% %QUERY_PARAMS% %CEL(f(x) > (1))%",
}
IDS: Seeds = {
    "mesh": b"spiffe://cluster.local/ns/default/sa/backend", "other": b"spiffe://a-b.c_d/ns/x-y/sa/z.1",
    "slash": b"spiffe://a/ns/b/sa/c/", "case": b"SPIFFE://a/ns/b/sa/c", "port": b"spiffe://a:1/ns/b/sa/c",
}  # fmt: skip
FORWARDED: Seeds = {
    "mesh": b"\nspiffe://a/ns/b/sa/c\nCN=x,O=y\nspiffe://a/ns/b/sa/d",
    "chain": b"By=spiffe://a/ns/b/sa/x;Hash=00;URI=spiffe://a/ns/b/sa/y\nspiffe://a/ns/b/sa/c\n\nspiffe://a/ns/b/sa/d",
    "quoted": b'a\nb\nCN=\\"x\\",O=\\\\\nurn:x;URI=y,By="z"',
    "broken": b"a\rb\n\xc3\xa9\nCN=\\\n\\",
}
BOOTSTRAPS: Seeds = {
    "mesh": b"node: {id: me, cluster: c, metadata: {a: [1, null, true]}}\nadmin: {address: {socket_address: "
    b"{address: 127.0.0.1, port_value: 0}}}\ndynamic_resources:\n  lds_config: {ads: {}, initial_fetch_timeout: 5s}\n"
    b"  cds_config: {ads: {}}\n  ads_config: {api_type: DELTA_GRPC, grpc_services: [{envoy_grpc: {cluster_name: x}}]}\n"
    b"static_resources: {clusters: [{name: x, type: STATIC}]}\n",
    "static": b'{"static_resources": {"listeners": [{"name": "l", "address": {"socket_address": {"address": "0.0.0.0", '
    b'"port_value": 80}}, "filter_chains": [{"filters": [{"name": "t", "typed_config": {"@type": "type.googleapis.com/'
    b'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "t", "cluster": "c"}}]}]}]}}',
}


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def h2_requests() -> Seeds:
    """Frames of a client, behind its preface and SETTINGS."""
    encoder = Encoder()
    head = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/a?b"),
        (":authority", "a.example"),
        ("x", "y"),
    ]
    post = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/p"),
        (":authority", "a"),
        ("content-length", "3"),
    ]
    first, second = encoder.encode(head), encoder.encode(post)
    return {
        "get": b"\xff" + _frame(1, 5, 1, first) + _frame(1, 5, 3, encoder.encode(head)),
        "post": b"\x05" + _frame(1, 4, 1, second) + _frame(0, 8, 1, b"\x02abc\0\0") + _frame(0, 1, 1),
        "continued": b"\x10" + _frame(1, 1, 1, first[:9]) + _frame(9, 4, 1, first[9:]),
        "control": b"\x40" + _frame(6, 0, 0, b"12345678") + _frame(8, 0, 0, b"\0\0\xff\xff")
        + _frame(4, 0, 0, b"\0\4\0\1\0\0\0\1\0\0\0\x40") + _frame(2, 0, 5, b"\0\0\0\1\x10") + _frame(7, 0, 0, bytes(8)),
        "trailers": b"\x20" + _frame(1, 4, 1, second) + _frame(0, 0, 1, b"abc")
        + _frame(1, 5, 1, encoder.encode([("grpc-status", "0")])),
        "reset": b"\x7f" + _frame(1, 4, 1, first) + _frame(3, 0, 1, b"\0\0\0\x08"),
        "crumbs": b"\xff" + _frame(1, 5, 1, encoder.encode([*head, ("cookie", "a=1"), ("cookie", "b=2")])),
    }  # fmt: skip


def h2_responses() -> Seeds:
    """Frames of a server, behind its SETTINGS, on the streams 1, 3 and 5."""
    encoder = Encoder()
    ok = encoder.encode([(":status", "200"), ("content-length", "2"), ("server", "x")])
    hint = encoder.encode([(":status", "103"), ("link", "</a>")])
    return {
        "ok": b"\xff" + _frame(1, 4, 1, ok) + _frame(0, 1, 1, b"ok"),
        "hint": b"\x11" + _frame(1, 4, 5, hint) + _frame(1, 4, 5, encoder.encode([(":status", "200")]))
        + _frame(0, 0, 5, b"body") + _frame(1, 5, 5, encoder.encode([("grpc-status", "0")])),
        "head": b"\x08" + _frame(1, 5, 3, encoder.encode([(":status", "200"), ("content-length", "9")])),
        "away": b"\x30" + _frame(7, 0, 0, b"\0\0\0\1\0\0\0\0") + _frame(3, 0, 1, b"\0\0\0\x07"),
    }  # fmt: skip


def field_lists() -> Seeds:
    """Names and values led by their lengths, as the target reads them."""

    def fields(*pairs: tuple[bytes, bytes]) -> bytes:
        return b"".join(bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in pairs) + b"\0"

    return {
        "few": fields((b"abc", b"def"), (b"x-y", b"1")) * 3,
        "long": fields((b"a" * 31, b"v" * 255), (b"b", bytes(range(128, 255)))),
        "again": (fields((b"k", b"v" * 200)) + fields((b"kk", b"w" * 200))) * 6,
    }


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def tokens() -> tuple[Seeds, Seeds]:
    """Tokens, one of them signed with the secret of the key set; and that set."""
    secret = b"a secret that is no secret at all"
    numbers = rsa.RSAPublicNumbers(65537, int.from_bytes(b"\xc1" + bytes(range(1, 255)) + b"\x01", "big"))
    modulus = numbers.n.to_bytes(256, "big")
    keys = [
        {"kty": "oct", "kid": "s", "alg": "HS256", "k": _encoded(secret)},
        {"kty": "RSA", "kid": "r", "use": "sig", "n": _encoded(modulus), "e": "AQAB"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": _encoded(bytes(range(32)))},
    ]
    claims = {
        "iss": "me",
        "sub": "you",
        "aud": ["a", "b"],
        "exp": 4102444800,
        "x": {"y": [1, 2.5, None, True]},
    }

    def token(head: dict[str, str], key: bytes) -> bytes:
        signed = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}"
        return f"{signed}.{_encoded(hmac.digest(key, signed.encode(), hashlib.sha256))}".encode()

    return {
        "signed.txt": token({"alg": "HS256", "kid": "s"}, secret),
        "no-key": token({"alg": "HS256"}, b"another"),
        "confused": token({"alg": "HS256", "kid": "r"}, modulus),
        "none": token({"alg": "none"}, b""),
    }, {
        "keys.json": json.dumps({"keys": keys}).encode(),
        "odd": b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}], "keys2": {"a": {"a": 1}}}',
    }


def resources() -> Seeds:
    """Of each kind some that the compiler emits, led by the kind's number."""
    found: dict[str, list[tuple[str, bytes]]] = {kind: [] for kind in KINDS}
    for golden in sorted(CASES.glob("*/*/xds.out.yaml")):
        for section, named in yaml.safe_load(golden.read_text()).items():
            for name, body in (named or {}).items():
                packed = from_dict(KINDS[section], body).SerializeToString(deterministic=True)
                if len(packed) <= LARGEST:
                    found[section].append((f"{golden.parent.name}-{name}", packed))
    seeds: Seeds = {}
    numbers = {"clusters": 0, "endpoints": 1, "listeners": 2, "routes": 4}
    for section, candidates in found.items():
        # Every n-th by size, so that small and large ones are among them.
        candidates.sort(key=lambda each: (len(each[1]), each[0]))
        for name, packed in candidates[:: max(1, len(candidates) // 6)][:6]:
            file = "".join(c if c.isalnum() or c in "-_." else "_" for c in f"{section}-{name}")[:80]
            seeds[file] = bytes([numbers[section]]) + packed
    secret = {"name": "s", "validation_context": {"trusted_ca": {"inline_string": "x"}}}
    packed = from_dict("envoy.extensions.transport_sockets.tls.v3.Secret", secret).SerializeToString()
    return seeds | {"secret": b"\6" + packed}


def hellos() -> Seeds:
    """ClientHellos of Python's own TLS."""

    def hello(name: str | None, protocols: list[str]) -> bytes:
        context = ssl.create_default_context()
        context.check_hostname = name is not None
        context.set_alpn_protocols(protocols)
        out = ssl.MemoryBIO()
        try:
            context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
        except ssl.SSLWantReadError:
            return out.read()
        raise AssertionError("a handshake by itself")

    whole = hello("App.Example", ["h2", "http/1.1"])
    body = whole[5:]
    split = b"".join(whole[:3] + len(part).to_bytes(2, "big") + part for part in (body[:9], body[9:]))
    return {"named": whole, "nameless": hello(None, []), "split": split}


def certificates() -> Seeds:
    """One of the mesh, and one with names of every kind."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "a,b-v1"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "a"),
        ]
    )

    def certificate(*names: x509.GeneralName) -> bytes:
        builder = x509.CertificateBuilder(subject, subject, key.public_key(), 7)
        builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        builder = builder.not_valid_after(datetime(2050, 1, 1, tzinfo=UTC))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    uri = x509.UniformResourceIdentifier("spiffe://cluster.local/ns/default/sa/backend")
    return {
        "mesh": certificate(uri),
        "names": certificate(uri, x509.DNSName("*.a.b"), x509.RFC822Name("a@b")),
    }


def corpora() -> Iterator[tuple[str, Seeds]]:
    """Every corpus that is the same each time."""
    yield from {
        "h1_request": H1_REQUESTS, "h1_response": H1_RESPONSES, "h1_body": H1_BODIES, "h2_server": h2_requests(),
        "h2_client": h2_responses(), "hpack": field_lists(), "path": PATHS, "authority": AUTHORITIES, "route": ROUTED,
        "path_template": TEMPLATES, "grpc_timeout": TIMEOUTS, "proxy_protocol": PROXIED, "trace": TRACES,
        "access_log": FORMATS, "spiffe_id": IDS, "xfcc": FORWARDED, "bootstrap": BOOTSTRAPS, "xds": resources(),
    }.items()  # fmt: skip
    signed, keys = tokens()
    yield "jwt", signed
    yield "jwks", keys


def main() -> int:
    """Writes them."""
    corpus = HERE / "corpus"
    once = {"client_hello": hellos, "certificate": certificates}
    random = [(name, make()) for name, make in once.items() if not (corpus / name).exists()]
    for target, seeds in [*corpora(), *random]:
        (corpus / target).mkdir(parents=True, exist_ok=True)
        for name, seed in seeds.items():
            (corpus / target / name).write_bytes(seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Row 62: certificates, keys, issuers and authorizers that are referred to and not there: nothing is let through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attack.forged import SERVER, Impostor
from attack.member import as_emitted, speak_mesh
from attack.positions import arena
from attack.wire import CLOSED, RESET, Line, converse
from case_harness.compilation import MESH, compile_alone
from cryptography import x509

from harness.identities import Identities
from harness.proxies import DataPlane, NotReady, Tulle, connected
from tulle.controlplane.offline import check

pytestmark = pytest.mark.integration

PATIENCE_S = 15.0
SUITE = Path(__file__).with_name("mesh.yaml")
CLUSTER = "outbound|80||backend-service.default.svc.cluster.local"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def file(name: str) -> dict[str, str]:
    return {"filename": f"/nowhere/{name}.pem"}


ORIGINATING: dict[str, dict[str, Any]] = {
    "a CA": {"validation_context": {"trusted_ca": file("root")}},
    "a certificate": {
        "validation_context": {"trusted_ca": {"inline_string": "%ROOT%"}},
        "tls_certificates": [{"certificate_chain": file("own"), "private_key": file("key")}],
    },
    "a list of revocations": {
        "validation_context": {"trusted_ca": {"inline_string": "%ROOT%"}, "crl": file("crl")},
    },
    "a CA that is none": {"validation_context": {"trusted_ca": {"inline_string": "not PEM"}}},
}


@pytest.mark.parametrize("what", ORIGINATING)
def test_a_server_is_not_called_without_what_it_is_checked_by(
    plane: DataPlane, what: str, tmp_path: Path
) -> None:
    """Neither in plaintext nor unchecked. A proxy may refuse such a configuration as a whole, as Envoy does."""
    mesh = Identities()
    good = mesh.issue([x509.UniformResourceIdentifier(SERVER)])
    with Impostor(mesh, good) as server:

        def towards(bootstrap: dict[str, Any]) -> None:
            for cluster in bootstrap["static_resources"]["clusters"]:
                if cluster["name"] == CLUSTER:
                    speak_mesh(cluster, SERVER, server.port, (mesh, "client"))
                    common = _filled(ORIGINATING[what], mesh.root)
                    context = {"@type": TLS, "common_tls_context": common}
                    cluster["transport_socket"]["typed_config"] = context

        statuses = _asked_if_it_starts(plane, tmp_path, towards)
        assert statuses in ([503], None)
        assert not any(server.heard)


def _filled(value: Any, root: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, root) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, root) for inner in value]
    return root if value == "%ROOT%" else value


def _asked_if_it_starts(
    plane: DataPlane, folder: Path, change: Callable[[dict[str, Any]], None]
) -> list[int] | None:
    """What a request is answered; None where the proxy refused to start with this configuration and ended."""
    try:
        with arena("outbound", plane, folder, change) as running, running.connect() as line:
            asked = f"GET /x HTTP/1.1\r\nHost: {running.host}\r\n\r\n".encode()
            return converse(line, [asked], 1).statuses
    except NotReady:
        return None


def test_nothing_is_served_without_an_identity(tmp_path: Path) -> None:
    """An inbound port whose certificate and roots are to come from an authority that has given none. (Stock Envoy
    does not listen before its secrets have come.)
    """
    with arena("inbound", Tulle(), tmp_path, as_emitted) as bare:
        for said in (b"GET /x HTTP/1.1\r\nHost: shop\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
            with Line(connected(bare.ports["inbound|9100"], PATIENCE_S)) as line:
                line.send(said)
                assert line.drain() in {CLOSED, RESET}
                assert b"HTTP/" not in line.kept
        with pytest.raises(OSError):
            bare.connect()
        assert not bare.application.snapshot().all_bytes()


UNRESOLVED = {
    "an issuer's keys": """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens}
spec:
  selector: {matchLabels: {app: shop}}
  jwtRules: [{issuer: https://issuer.test, jwksUri: "https://keys.nowhere.example/keys"}]
""",
    "an authorizer": """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask}
spec: {selector: {matchLabels: {app: shop}}, action: CUSTOM, provider: {name: nobody}, rules: [{}]}
""",
}


@pytest.mark.parametrize("what", UNRESOLVED)
def test_nobody_is_let_in_without_who_decides(plane: DataPlane, what: str, tmp_path: Path) -> None:
    """Keys and authorizers that nobody declares: everything is refused, and a diagnostic says so."""
    compiled = compile_alone(f"{MESH.read_text()}---\n{SUITE.read_text()}---{UNRESOLVED[what]}")
    assert any(each.severity in {"warning", "error"} for each in compiled.diagnostics)
    with arena("inbound", plane, tmp_path, compilation=compiled) as running:
        with running.connect() as line:
            heard = converse(line, [b"GET /x HTTP/1.1\r\nHost: shop\r\n\r\n"], 1)
        assert heard.statuses == [403]
        assert not running.application.snapshot().all_bytes()


def test_a_secret_that_cannot_be_read_refuses_its_policy() -> None:
    """`credentialName` names what no source holds: the rule is an error, not TLS without a certificate."""
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: out, namespace: shop}
spec: {host: out.example, trafficPolicy: {tls: {mode: MUTUAL, credentialName: nothing}}}
"""
    [found] = check([("rule.yaml", rule)]).findings
    assert (found.severity, found.source.file, found.source.line) == ("error", "rule.yaml", 5)

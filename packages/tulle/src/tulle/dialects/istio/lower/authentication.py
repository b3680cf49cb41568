"""Lowers PeerAuthentication (which connections are taken) and RequestAuthentication (whose tokens)."""

from __future__ import annotations

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.istio.lower.targets import target
from tulle.dialects.istio.schema import security as schema
from tulle.dialects.validate import validate
from tulle.model.access import (
    KEY_FETCH_TIMEOUT,
    ClaimHeader,
    Issuer,
    PeerMode,
    PeerPolicy,
    TokenHeader,
    TokenPolicy,
)
from tulle.model.meta import labels
from tulle.objects import Path, RawObject

_MODES: dict[str, PeerMode | None] = {
    "UNSET": None,
    "STRICT": PeerMode.STRICT,
    "PERMISSIVE": PeerMode.PERMISSIVE,
    "DISABLE": PeerMode.DISABLE,
}


def peer_authentication(obj: RawObject) -> Lowered:
    """PeerAuthentication → PeerPolicy."""
    findings = Findings(obj)
    parsed = validate(schema.PeerAuthentication, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    selector = labels(spec.selector.match_labels) if spec.selector else ()
    path: Path = ("spec", "portLevelMtls")
    if spec.port_level_mtls and not selector:
        message = "portLevelMtls needs a selector: ports are those of certain workloads"
        findings.error("conflicting-fields", message, path)
    ports = []
    for written, mtls in spec.port_level_mtls.items():
        if not (written.isascii() and written.isdecimal() and 1 <= int(written) <= 65535):
            findings.error("wrong-value", f'must be a port, not "{written[:20]}"', (*path, written))
            continue
        ports.append((int(written), _MODES[mtls.mode]))
    mode = _MODES[spec.mtls.mode] if spec.mtls else None
    return findings.lowered((PeerPolicy(meta_of(obj), mode, selector, tuple(sorted(ports))),))


def request_authentication(obj: RawObject) -> Lowered:
    """RequestAuthentication → TokenPolicy."""
    findings = Findings(obj)
    parsed = validate(schema.RequestAuthentication, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    chosen = target(spec.selector, spec.target_ref, spec.target_refs, findings)
    issuers = tuple(
        _issuer(rule, ("spec", "jwtRules", index), findings) for index, rule in enumerate(spec.jwt_rules)
    )
    if not issuers or chosen is None:
        return findings.lowered(())
    return findings.lowered((TokenPolicy(meta_of(obj), issuers, chosen),))


def _issuer(rule: schema.JwtRule, path: Path, findings: Findings) -> Issuer:
    if rule.jwks is not None and rule.jwks_uri is not None:
        findings.error("conflicting-fields", "must say only one of jwks and jwksUri", (*path, "jwksUri"))
    if rule.jwks is None and rule.jwks_uri is None:
        message = "must say jwks or jwksUri: keys are not looked for by OpenID discovery"
        findings.error("missing-field", message, path)
    return Issuer(
        source=findings.place(path),
        issuer=rule.issuer,
        audiences=tuple(rule.audiences),
        jwks=rule.jwks,
        jwks_uri=rule.jwks_uri,
        headers=tuple(TokenHeader(each.name.lower(), each.prefix) for each in rule.from_headers),
        params=tuple(rule.from_params),
        cookies=tuple(rule.from_cookies),
        payload_header=rule.output_payload_to_header,
        claim_headers=tuple(ClaimHeader(each.header, each.claim) for each in rule.output_claim_to_headers),
        forward=rule.forward_original_token,
        space_delimited=tuple(rule.space_delimited_claims),
        timeout=rule.timeout or KEY_FETCH_TIMEOUT,
    )

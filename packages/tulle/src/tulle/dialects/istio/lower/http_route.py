"""Lowers one HTTP rule of a VirtualService: its action and everything that rides along."""

from __future__ import annotations

import base64
import binascii

from tulle.dialects.findings import Findings
from tulle.dialects.istio.lower.common import (
    ALL,
    authority_of,
    destination,
    destinations,
    header_rules,
    percent,
)
from tulle.dialects.istio.lower.matches import route_match, string_match
from tulle.dialects.istio.lower.resilience import fault_of, retry_of, timeout_of
from tulle.dialects.istio.schema import virtual_service as schema
from tulle.model.matching import MatchKind, StringMatch
from tulle.model.routes import (
    Action,
    Cors,
    DirectResponse,
    Forward,
    HttpRule,
    Mirror,
    PathRegexRewrite,
    Redirect,
    Rewrite,
)
from tulle.objects import Path

PREFIX_VARIABLE = "%PREFIX()%"
"""At the start of a redirect's uri: keep what follows the matched prefix."""

MAX_BODY = 1024 * 1024


def http_rule(route: schema.HttpRoute, path: Path, findings: Findings) -> HttpRule | None:
    """One rule; None for a delegate (reported as unsupported) or when its action is not clear."""
    action = _action(route, path, findings)
    matches = tuple(
        route_match(match, (*path, "match", index), findings) for index, match in enumerate(route.match)
    )
    rule_retry = retry_of(route, path, findings)
    mirrors = _mirrors(route, path, findings)
    rewrite = _rewrite(route, path, findings)
    fault = fault_of(route.fault, (*path, "fault"), findings) if route.fault else None
    cors = _cors(route.cors_policy, (*path, "corsPolicy"), findings) if route.cors_policy else None
    if action is None:
        return None
    return HttpRule(
        source=findings.place(path),
        action=action,
        name=route.name,
        matches=matches,
        rewrite=rewrite,
        timeout=timeout_of(route),
        retry=rule_retry,
        fault=fault,
        mirrors=mirrors,
        cors=cors,
        headers=header_rules(route.headers),
    )


def _action(route: schema.HttpRoute, path: Path, findings: Findings) -> Action | None:
    said = {
        "route": bool(route.route),
        "redirect": route.redirect is not None,
        "directResponse": route.direct_response is not None,
        "delegate": route.delegate is not None,
    }
    chosen = [name for name, present in said.items() if present]
    if not chosen:
        hint = "a rule needs one of route, redirect and directResponse"
        findings.error("missing-field", "the rule does not say what to do", path, hint)
        return None
    if len(chosen) > 1:
        findings.error("conflicting-fields", f"must say only one of {', '.join(chosen)}", (*path, chosen[1]))
        return None
    if route.redirect is not None:
        return _redirect(route.redirect, (*path, "redirect"), findings)
    if route.direct_response is not None:
        return _direct_response(route.direct_response, (*path, "directResponse"), findings)
    if route.route:
        return Forward(destinations(route.route, (*path, "route"), findings))
    return None


def _redirect(written: schema.HttpRedirect, path: Path, findings: Findings) -> Redirect:
    if written.port is not None and written.derive_port is not None:
        message = "must say only one of port and derivePort"
        findings.error("conflicting-fields", message, (*path, "derivePort"))
    uri = written.uri
    prefix = uri.removeprefix(PREFIX_VARIABLE) if uri and uri.startswith(PREFIX_VARIABLE) else None
    return Redirect(
        status=written.redirect_code,
        path=uri if prefix is None else None,
        prefix=prefix,
        authority=written.authority,
        scheme=written.scheme,
        port=written.port,
        scheme_port=written.derive_port == "FROM_PROTOCOL_DEFAULT",
    )


def _direct_response(written: schema.HttpDirectResponse, path: Path, findings: Findings) -> DirectResponse:
    body = None
    if written.body is not None and written.body.string is not None:
        body = written.body.string.encode()
    elif written.body is not None and written.body.bytes is not None:
        try:
            body = base64.b64decode(written.body.bytes, validate=True)
        except (binascii.Error, ValueError):
            findings.error("wrong-value", "must be base64", (*path, "body", "bytes"))
    if body is not None and len(body) > MAX_BODY:
        message = f"the body has {len(body):,} bytes; at most {MAX_BODY:,} are allowed"
        findings.error("too-large", message, (*path, "body"))
    return DirectResponse(written.status, body)


def _rewrite(route: schema.HttpRoute, path: Path, findings: Findings) -> Rewrite | None:
    written = route.rewrite
    authority = written.authority if written else None
    by_header = authority_of(route.headers)
    if by_header is not None:
        # Istio reads a Host header that is set as a rewrite of the authority; the explicit rewrite wins.
        authority = authority or by_header
    if written is None:
        return None if authority is None else Rewrite(authority=authority)
    if written.uri is not None and written.uri_regex_rewrite is not None:
        message = "must say only one of uri and uriRegexRewrite"
        findings.error("conflicting-fields", message, (*path, "rewrite", "uriRegexRewrite"))
    if route.redirect is not None or route.direct_response is not None:
        message = "a rule that redirects or answers directly forwards nothing that could be rewritten"
        findings.error("conflicting-fields", message, (*path, "rewrite"))
    regex = written.uri_regex_rewrite
    return Rewrite(
        prefix=written.uri,
        regex=PathRegexRewrite(regex.match, regex.rewrite) if regex else None,
        authority=authority,
    )


def _mirrors(route: schema.HttpRoute, path: Path, findings: Findings) -> tuple[Mirror, ...]:
    mirrors = []
    if route.mirror is not None:
        if route.mirrors:
            message = "must say only one of mirror and mirrors"
            findings.error("conflicting-fields", message, (*path, "mirrors"))
        legacy = (*path, "mirrorPercent")
        share = percent(route.mirror_percentage, route.mirror_percent, ALL, legacy, findings)
        mirrors.append(Mirror(destination(route.mirror, (*path, "mirror"), findings), share))
    elif route.mirror_percentage is not None or route.mirror_percent is not None:
        field = "mirrorPercentage" if route.mirror_percentage is not None else "mirrorPercent"
        findings.warning("no-effect", "there is no mirror that it would apply to", (*path, field))
    for index, policy in enumerate(route.mirrors):
        at = (*path, "mirrors", index)
        share = percent(policy.percentage, None, ALL, at, findings)
        mirrors.append(Mirror(destination(policy.destination, (*at, "destination"), findings), share))
    return tuple(mirrors)


def _cors(written: schema.CorsPolicy, path: Path, findings: Findings) -> Cors:
    origins = [match for match in map(string_match, written.allow_origins) if match is not None]
    if written.allow_origin:
        message = "allowOrigin is deprecated" + (" and allowOrigins wins" if origins else "")
        findings.warning("deprecated", message, (*path, "allowOrigin"), "write allowOrigins: [{exact: …}]")
        if not origins:
            origins = [StringMatch(MatchKind.EXACT, origin) for origin in written.allow_origin]
    forward = {"FORWARD": True, "IGNORE": False}.get(written.unmatched_preflights)
    return Cors(
        allow_origins=tuple(origins),
        allow_methods=tuple(written.allow_methods),
        allow_headers=tuple(written.allow_headers),
        expose_headers=tuple(written.expose_headers),
        max_age=written.max_age,
        allow_credentials=written.allow_credentials,
        forward_unmatched_preflights=forward,
    )

"""Lowers Linkerd's policy: Servers, what is granted on them, and the callers and requests that grants are about."""

from __future__ import annotations

from collections.abc import Iterator

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.linkerd import parse, schema
from tulle.dialects.validate import validate
from tulle.model.access import Clause
from tulle.model.meta import labels
from tulle.model.servers import (
    CallerSet,
    CallersRef,
    GrantKind,
    GrantTarget,
    InboundDefault,
    ServerGrant,
    ServerPort,
    ServerRoute,
)
from tulle.objects import Path, RawObject

_SETS = ("MeshTLSAuthentication", "NetworkAuthentication")


def server(obj: RawObject) -> Lowered:
    """Server → ServerPort."""
    findings = Findings(obj)
    parsed = validate(schema.Server, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    if spec.pod_selector is None:
        findings.error("missing-field", "must say podSelector", ("spec",), "podSelector: {} selects everything")
        return findings.lowered(())
    if spec.proxy_protocol != "unknown":
        message = "the port's protocol is that of the Service: say appProtocol there"
        findings.warning("unsupported", message, ("spec", "proxyProtocol"))
    selector = parse.selected(spec.pod_selector, ("spec", "podSelector"), findings)
    port = int(spec.port) if isinstance(spec.port, str) and spec.port.isdecimal() else spec.port
    default = InboundDefault(spec.access_policy) if spec.access_policy else InboundDefault.DENY
    return findings.lowered((ServerPort(meta_of(obj), selector, port, labels(obj.labels), default),))


def server_authorization(obj: RawObject) -> Lowered:
    """ServerAuthorization → ServerGrant."""
    findings = Findings(obj)
    parsed = validate(schema.ServerAuthorization, findings)
    if parsed is None:
        return findings.lowered(())
    spec, at = parsed.spec, ("spec", "server")
    if (spec.server.name is None) is (spec.server.selector is None):
        findings.error("missing-field", "must say one of name and selector", at)
        return findings.lowered(())
    chosen = parse.selected(spec.server.selector, (*at, "selector"), findings) if spec.server.selector else ()
    target = GrantTarget(findings.place(at), GrantKind.SERVER, spec.server.name, chosen)
    callers = tuple(_clients(spec.client, ("spec", "client"), findings))
    return findings.lowered((ServerGrant(meta_of(obj), target, callers),))


def _clients(client: schema.Client, path: Path, findings: Findings) -> Iterator[Clause]:
    """From one of the networks and of one of the identities."""
    if client.unauthenticated is (client.mesh_tls is not None):
        findings.error("missing-field", "must say one of unauthenticated and meshTLS", path)
    who = [Clause()] if client.mesh_tls is None else list(_identities(client.mesh_tls, (*path, "meshTLS"), findings))
    networks = [
        parse.network(each, (*path, "networks", index), findings) for index, each in enumerate(client.networks)
    ]
    for one in who:
        for network in networks or [Clause()]:
            yield Clause((*network.conditions, *one.conditions))


def _identities(tls: schema.MeshTls, path: Path, findings: Findings) -> Iterator[Clause]:
    if tls.unauthenticated_tls:
        message = "TLS without an identity is not taken: a caller has an identity, or comes in plaintext"
        findings.error("unsupported", message, (*path, "unauthenticatedTLS"), "write unauthenticated: true")
    elif not tls.identities and not tls.service_accounts:
        findings.error("missing-field", "must say identities or serviceAccounts", path)
    for index, name in enumerate(tls.identities):
        yield parse.identity(name, (*path, "identities", index), findings)
    for index, each in enumerate(tls.service_accounts):
        space = each.namespace or findings.obj.namespace
        yield parse.account(space, each.name, (*path, "serviceAccounts", index), findings)


def authorization_policy(obj: RawObject) -> Lowered:
    """AuthorizationPolicy → ServerGrant."""
    findings = Findings(obj)
    parsed = validate(schema.AuthorizationPolicy, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    target = _target(spec.target_ref, ("spec", "targetRef"), findings)
    requires: list[CallersRef] = []
    callers: list[Clause] = [Clause()]
    for index, ref in enumerate(spec.required_authentication_refs):
        at = ("spec", "requiredAuthenticationRefs", index)
        space = ref.namespace or obj.namespace
        if ref.kind == "ServiceAccount":
            one = parse.account(space, ref.name, at, findings)
            callers = [Clause((*each.conditions, *one.conditions)) for each in callers]
        elif ref.kind in _SETS and ref.group == parse.GROUP:
            requires.append(CallersRef(findings.place(at), ref.kind, space, ref.name))
        else:
            message = f"cannot be a {ref.kind} of group {ref.group!r}"
            findings.error("wrong-value", message, (*at, "kind"), f"known are {', '.join(_SETS)}, ServiceAccount")
    if target is None:
        return findings.lowered(())
    return findings.lowered((ServerGrant(meta_of(obj), target, tuple(callers), tuple(requires)),))


def _target(ref: schema.TargetRef, path: Path, findings: Findings) -> GrantTarget | None:
    own = findings.obj.namespace
    place = findings.place(path)
    if ref.namespace not in (None, own):
        findings.error("wrong-value", "a target must be in the policy's own namespace", (*path, "namespace"))
    if (ref.group, ref.kind) in ((parse.GROUP, "Server"), (parse.GROUP, "HTTPRoute")):
        return GrantTarget(place, GrantKind(ref.kind), ref.name)
    if (ref.group, ref.kind) in (("", "Namespace"), ("core", "Namespace")):
        if ref.name != own:
            findings.error("wrong-value", f"must be the policy's own namespace {own}", (*path, "name"))
        return GrantTarget(place, GrantKind.NAMESPACE, ref.name)
    message = f"cannot be a {ref.kind} of group {ref.group!r}"
    hint = f"known are Server and HTTPRoute of {parse.GROUP}, and Namespace"
    findings.error("wrong-value", message, (*path, "kind"), hint)
    return None


def mesh_tls_authentication(obj: RawObject) -> Lowered:
    """MeshTLSAuthentication → CallerSet."""
    findings = Findings(obj)
    parsed = validate(schema.MeshTlsAuthentication, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    if not spec.identities and not spec.identity_refs:
        findings.error("missing-field", "must say identities or identityRefs", ("spec",))
    found = [
        parse.identity(name, ("spec", "identities", index), findings)
        for index, name in enumerate(spec.identities)
    ]
    for index, ref in enumerate(spec.identity_refs):
        at = ("spec", "identityRefs", index)
        if ref.kind == "ServiceAccount":
            found.append(parse.account(ref.namespace or obj.namespace, ref.name, at, findings))
        elif ref.kind == "Namespace":
            found.append(parse.namespace(ref.name, at, findings))
        else:
            message = f"cannot be a {ref.kind}"
            findings.error("wrong-value", message, (*at, "kind"), "known are ServiceAccount and Namespace")
    return findings.lowered((CallerSet(meta_of(obj), tuple(found)),))


def network_authentication(obj: RawObject) -> Lowered:
    """NetworkAuthentication → CallerSet."""
    findings = Findings(obj)
    parsed = validate(schema.NetworkAuthentication, findings)
    if parsed is None:
        return findings.lowered(())
    found = tuple(
        parse.network(each, ("spec", "networks", index), findings)
        for index, each in enumerate(parsed.spec.networks)
    )
    return findings.lowered((CallerSet(meta_of(obj), found),))


def http_route(obj: RawObject) -> Lowered:
    """HTTPRoute → ServerRoute."""
    findings = Findings(obj)
    parsed = validate(schema.HttpRoute, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    servers = []
    for index, ref in enumerate(spec.parent_refs):
        at = ("spec", "parentRefs", index)
        if (ref.group, ref.kind) == (parse.GROUP, "Server"):
            if ref.namespace not in (None, obj.namespace):
                findings.error("wrong-value", "must be in the route's own namespace", (*at, "namespace"))
            servers.append(ref.name)
        else:
            message = f"routes of a {ref.kind} are not taken from this kind"
            hint = "write an HTTPRoute of gateway.networking.k8s.io, or a VirtualService"
            findings.warning("unsupported", message, at, hint)
    operations = tuple(
        parse.request(match, spec.hostnames, ("spec", "rules", index, "matches", number), findings)
        for index, rule in enumerate(spec.rules)
        for number, match in enumerate(rule.matches or [schema.RouteMatch()])
    )
    if not servers:
        return findings.lowered(())
    return findings.lowered((ServerRoute(meta_of(obj), tuple(servers), operations),))

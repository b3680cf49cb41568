"""Lowers a VirtualService to a RouteSet."""

from __future__ import annotations

from collections.abc import Sequence

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.istio.lower.common import destinations
from tulle.dialects.istio.lower.http_route import http_rule
from tulle.dialects.istio.lower.matches import connection_match, gateway_names
from tulle.dialects.istio.schema import virtual_service as schema
from tulle.dialects.validate import validate
from tulle.dialects.visibility import visibility
from tulle.model.routes import MESH_GATEWAY, ConnectionRule, HttpRule, RouteSet
from tulle.objects import Path, RawObject


def virtual_service(obj: RawObject) -> Lowered:
    """VirtualService → RouteSet."""
    findings = Findings(obj)
    parsed = validate(schema.VirtualService, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    gateways = gateway_names(spec.gateways, findings) or (MESH_GATEWAY,)
    _check_hosts(spec, gateways, findings)
    fragment = RouteSet(
        meta=meta_of(obj),
        hosts=tuple(dict.fromkeys(spec.hosts)),
        gateways=gateways,
        http=_http(spec.http, findings),
        tls=_connection_rules(spec.tls, ("spec", "tls"), findings),
        tcp=_connection_rules(spec.tcp, ("spec", "tcp"), findings),
        visibility=visibility(spec.export_to, obj.namespace, ("spec", "exportTo"), findings),
    )
    return findings.lowered((fragment,))


def _check_hosts(spec: schema.VirtualServiceSpec, gateways: tuple[str, ...], findings: Findings) -> None:
    path: Path = ("spec", "hosts")
    if not spec.hosts:
        hint = "a VirtualService without hosts is one that others delegate to, which is not supported yet"
        findings.error("missing-field", "'hosts' must name at least one host", path, hint)
    if not (spec.http or spec.tcp or spec.tls):
        findings.error("missing-field", "there must be at least one of http, tls and tcp", ("spec",))
    for index, host in enumerate(spec.hosts):
        if host == "*" and MESH_GATEWAY in gateways:
            message = "host * needs a gateway: for sidecars it would take over every service"
            findings.error("wildcard-host", message, (*path, index), "name the hosts, or a gateway")
        elif spec.hosts.index(host) != index:
            findings.warning("redundant", f"host {host} is there twice", (*path, index))


def _http(routes: list[schema.HttpRoute], findings: Findings) -> tuple[HttpRule, ...]:
    rules = []
    catch_all: int | None = None
    for index, route in enumerate(routes):
        path: Path = ("spec", "http", index)
        if catch_all is not None:
            message = f"this rule is never reached: http[{catch_all}] before it matches every request"
            findings.warning("unreachable-rule", message, path, "put the rule without match last")
        elif not route.match and route.delegate is None:
            catch_all = index
        rule = http_rule(route, path, findings)
        if rule is not None:
            rules.append(rule)
    return tuple(rules)


def _connection_rules(
    routes: Sequence[schema.TcpRoute | schema.TlsRoute], path: Path, findings: Findings
) -> tuple[ConnectionRule, ...]:
    return tuple(_connection_rule(route, (*path, index), findings) for index, route in enumerate(routes))


def _connection_rule(
    route: schema.TcpRoute | schema.TlsRoute, path: Path, findings: Findings
) -> ConnectionRule:
    matches: Sequence[schema.L4Match | schema.TlsMatch] = route.match
    return ConnectionRule(
        source=findings.place(path),
        destinations=destinations(route.route, (*path, "route"), findings),
        matches=tuple(
            connection_match(match, (*path, "match", index), findings) for index, match in enumerate(matches)
        ),
    )

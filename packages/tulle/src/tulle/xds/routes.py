"""Virtual hosts and route tables: which authority means which service port, and its rules in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tulle.model.matching import RouteMatch
from tulle.model.mesh import BoundRule, HostRoutes, LinkedPort, LinkedService
from tulle.model.routes import Destination, Forward, HttpRule, Redirect
from tulle.model.services import Protocol
from tulle.protos import message
from tulle.xds import names
from tulle.xds.effective import at_port
from tulle.xds.filters import cors, fault
from tulle.xds.route_actions import Named, direct_response, forward, hash_keys, redirect
from tulle.xds.route_matches import route_match
from tulle.xds.scope import Outbound, OutboundService

ROUTE_TABLE = "envoy.config.route.v3.RouteConfiguration"

OVERRIDES = ("x-envoy-original-dst-host", "x-istio-original-dst-host", "x-istio-attributes")
"""Headers that tell some proxies another destination than the one that was decided on."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Finds the cluster of a destination among what a caller can reach; `port` is the one it addressed."""

    services: Mapping[str, OutboundService]
    port: int | None

    def __call__(self, destination: Destination) -> Named:
        outbound = self.services.get(destination.host)
        number = destination.port or self._port(outbound)
        subset = destination.subset or ""
        cluster = names.outbound_cluster(destination.host, number, subset)
        if outbound is None:
            return Named(destination, cluster, ())
        policy = at_port(outbound.policy, outbound.subset(subset), number)
        balancer = policy.load_balancer
        return Named(destination, cluster, () if balancer is None else hash_keys(balancer.method))

    def _port(self, outbound: OutboundService | None) -> int:
        """The port addressed if the destination has it, else its default; 0 leads to no cluster."""
        if outbound is None:
            return self.port or 0
        if self.port is not None and outbound.service.port(self.port) is not None:
            return self.port
        default = outbound.service.default_port
        return 0 if default is None else default.number


def http_routes(
    rules: tuple[BoundRule, ...], target: tuple[LinkedService, LinkedPort] | None, outbound: Outbound
) -> list[dict[str, Any]]:
    """The routes of one virtual host, in order: one for each alternative of each rule that is for this port.

    A service port without any rule leads to itself.
    """
    port = None if target is None else target[1].number
    name = Naming(outbound.services, port)
    routes = [
        _route(bound.rule, match, name)
        for bound in rules
        if port is None or not bound.ports or port in bound.ports
        for match in (bound.rule.matches or (None,))
        if match is None or match.port is None or match.port == port
    ]
    if not routes and target is not None:
        service, own = target
        itself = Destination(service.source, service.host, own.number)
        routes = [_route(HttpRule(service.source, Forward((itself,)), name="default"), None, name)]
    return routes


def _route(rule: HttpRule, match: RouteMatch | None, name: Naming) -> dict[str, Any]:
    action = rule.action
    if isinstance(action, Forward):
        made = forward(rule, action, match, name)
    elif isinstance(action, Redirect):
        made = redirect(rule, action)
    else:
        made = direct_response(rule, action)
    made["match"] = route_match(match)
    called = ".".join(part for part in (rule.name, "" if match is None else match.name) if part)
    if called:
        made["name"] = called
    filters = {}
    if rule.cors is not None:
        filters[cors.NAME] = cors.cors_policy(rule.cors)
    if rule.fault is not None:
        filters[fault.NAME] = fault.fault_policy(rule.fault)
    if filters:
        made["typed_per_filter_config"] = filters
    return made


def routable(service: LinkedService) -> Iterator[LinkedPort]:
    """The ports that HTTP requests can be sent to."""
    return (port for port in service.ports if port.protocol.is_http or port.protocol is Protocol.UNKNOWN)


def authorities(service: LinkedService, port: LinkedPort, namespace: str, domain: str) -> Iterator[str]:
    """The authorities that mean a service port to a caller of `namespace`, most explicit first."""
    known_as = [service.host]
    if service.short is not None:
        known_as.append(f"{service.short}.{service.namespace}.svc")
        known_as.append(f"{service.short}.{service.namespace}")
        if service.namespace == namespace:
            known_as.append(service.short)
    for name in known_as:
        yield f"{name}:{port.number}"
        if port is service.default_port:
            yield name


def virtual_host(name: str, domains: list[str], routes: list[dict[str, Any]]) -> Any:
    """A VirtualHost; the request's own port takes part in matching `domains`."""
    return message("envoy.config.route.v3.VirtualHost")(
        name=name, domains=domains, routes=routes, include_request_attempt_count=True
    )


def block_all() -> Any:
    """What answers for every authority that nobody declared: 502, as Istio's REGISTRY_ONLY."""
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 502}, "name": names.BLOCK_ALL}
    return virtual_host(names.BLOCK_ALL, ["*"], [route])


def allow_any() -> Any:
    """What answers for every authority that nobody declared where that is allowed: whoever it names."""
    action = {"cluster": names.PASSTHROUGH_CLUSTER, "timeout": {"seconds": 0}}
    route = {"match": {"prefix": "/"}, "route": action, "name": names.ALLOW_ANY}
    return virtual_host(names.ALLOW_ANY, ["*"], [route])


def route_table(name: str, hosts: list[Any]) -> Any:
    """A RouteConfiguration. Clusters may arrive after it, so they are not checked then."""
    return message(ROUTE_TABLE)(
        name=name,
        virtual_hosts=hosts,
        validate_clusters={"value": False},
        request_headers_to_remove=list(OVERRIDES),
    )


def routed_host(routes: HostRoutes, outbound: Outbound) -> Any:
    """The VirtualHost of a name that is only routed; any port of it."""
    every = ["*"] if routes.host == "*" else [routes.host]
    if not routes.host.startswith("*"):
        every.append(f"{routes.host}:*")
    return virtual_host(
        names.virtual_host(routes.host, None), every, http_routes(routes.http, None, outbound)
    )

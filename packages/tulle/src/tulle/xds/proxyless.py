"""What a proxyless gRPC client is told: the same routes and endpoints in the fields that gRPC understands.

gRPC (C-core, gRFCs A27, A28, A29, A39, A42) takes one listener per target with an `api_listener`, routes
over ADS, the router filter last, endpoints with weighted localities, and certificates by provider instance.
What it refuses is left out here: path conditions without an equivalent, filters but fault, balancing but
round robin and ring hash, DNS names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tulle.model.mesh import Endpoint, LinkedPort, ServiceEndpoints
from tulle.model.policies import Balancing, ConsistentHash, TlsMode
from tulle.model.services import Resolution
from tulle.protos import message
from tulle.xds import clusters, names, routes
from tulle.xds.cluster_policies import ISTIO_RING_SIZE, UNLIMITED
from tulle.xds.clusters import Target, service_metadata, targets
from tulle.xds.endpoints import load_assignment, subset_endpoints
from tulle.xds.filters import fault
from tulle.xds.memo import Memo
from tulle.xds.route_actions import quoted
from tulle.xds.scope import Outbound, OutboundService, Scope
from tulle.xds.shared import destinations, layer
from tulle.xds.snapshot import CLUSTER, ENDPOINTS, ROUTES, TYPES, Resource, Snapshot, resource
from tulle.xds.tls import TLS
from tulle.xds.wire import ADS, extension, typed, wrapped

PROVIDER = "default"
"""The certificate provider instance that the client's bootstrap defines."""

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_RETRIABLE = frozenset({"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"})
_FILTERS: Sequence[Any] = (
    extension(fault.NAME, "envoy.extensions.filters.http.fault.v3.HTTPFault"),
    extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
)


def emit_grpc(scope: Scope, memo: Memo) -> Snapshot:
    """The snapshot of a proxyless client: all callers of one namespace and shape share it."""
    inputs = (scope.outbound, scope.endpoints)
    return memo.get("grpc", inputs, partial(_build, scope.outbound, scope.endpoints, memo))


def _build(outbound: Outbound, endpoints: Mapping[str, ServiceEndpoints], memo: Memo) -> Snapshot:
    found: dict[str, dict[str, Resource]] = {type_url: {} for type_url in TYPES}
    for service in outbound.services.values():
        if service.service.resolution not in (Resolution.WORKLOADS, Resolution.STATIC):
            continue
        answering = endpoints.get(service.service.host) or ServiceEndpoints(service.service.host)
        for port in routes.routable(service.service):
            inputs = (service, answering, *destinations(service.http, outbound))
            build = partial(_service_port, service, port, answering, outbound)
            for each in memo.get(("grpc", port.number, outbound.namespace), inputs, build):
                found[each.type_url][each.name] = each
    _complete(found)
    layers = {type_url: layer(list(by_name.values()), memo) for type_url, by_name in found.items()}
    return memo.get("snapshot", tuple(layers.values()), lambda: Snapshot(layers))


def _complete(found: dict[str, dict[str, Resource]]) -> None:
    """Empty clusters for destinations that are not there, so that their calls fail and others do not."""
    needed = {each.name for table in found[ROUTES].values() for each in table.needs}
    for name in sorted(needed - found[CLUSTER].keys()):
        found[CLUSTER][name] = resource(_cluster_base(name))
        found[ENDPOINTS][name] = resource(load_assignment(name, ()))


def _service_port(
    service: OutboundService, port: LinkedPort, answering: ServiceEndpoints, outbound: Outbound
) -> list[Resource]:
    made = []
    for target in targets(service):
        if target.port is port:
            chosen = subset_endpoints(answering.of(port.number), target.subset)
            secured = _secured(target, chosen)
            reachable = [each for each in chosen if each.mtls is secured or not secured]
            made.append(resource(_cluster(target, answering if secured else None)))
            made.append(resource(load_assignment(target.name, reachable)))
    table = names.grpc_routes(service.service.host, port.number)
    host = routes.virtual_host(table, ["*"], _routes(service, port, outbound))
    made.append(resource(routes.route_table(table, [host])))
    authorities = routes.authorities(service.service, port, outbound.namespace, outbound.settings.domain)
    made += [resource(_listener(authority, table)) for authority in authorities]
    return made


def _secured(target: Target, endpoints: Sequence[Endpoint]) -> bool:
    """Whether to call over mTLS: gRPC has one transport per cluster, plaintext if nobody has a sidecar."""
    policy = target.policy.tls
    if policy is not None and policy.mode is TlsMode.DISABLE:
        return False
    return not target.service.external and (not endpoints or any(each.mtls for each in endpoints))


def _cluster_base(name: str) -> Any:
    return message(clusters.CLUSTER)(
        name=name, type="EDS", eds_cluster_config={"eds_config": ADS, "service_name": name}
    )


def _cluster(target: Target, answering: ServiceEndpoints | None) -> Any:
    """The Cluster; over mTLS with the accounts of `answering`, in plaintext without."""
    made = _cluster_base(target.name)
    made.metadata.CopyFrom(service_metadata([target.service]))
    made.connect_timeout.FromSeconds(10)
    balancer = target.policy.load_balancer
    method = Balancing.ROUND_ROBIN if balancer is None else balancer.method
    if isinstance(method, ConsistentHash):
        made.lb_policy = made.LbPolicy.Value("RING_HASH")
        made.ring_hash_lb_config.minimum_ring_size.value = method.ring_size or ISTIO_RING_SIZE
    pool = target.policy.connection_pool
    limit = UNLIMITED if pool is None or pool.max_requests is None else pool.max_requests
    made.circuit_breakers.thresholds.add(max_requests=wrapped(limit))
    if answering is not None:
        made.transport_socket.name = "envoy.transport_sockets.tls"
        made.transport_socket.typed_config.CopyFrom(_tls(answering.accounts))
    return made


def _tls(accounts: Sequence[str]) -> Any:
    instance = {"instance_name": PROVIDER}
    validation = {
        "ca_certificate_provider_instance": instance,
        "match_subject_alt_names": [{"exact": account} for account in accounts],
    }
    return typed(
        f"{TLS}.UpstreamTlsContext",
        common_tls_context={
            "tls_certificate_provider_instance": instance,
            "combined_validation_context": {"default_validation_context": validation},
        },
    )


def _listener(name: str, table: str) -> Any:
    manager = typed(
        _MANAGER, rds={"config_source": ADS, "route_config_name": table}, http_filters=list(_FILTERS)
    )
    return message("envoy.config.listener.v3.Listener")(name=name, api_listener={"api_listener": manager})


def _routes(service: OutboundService, port: LinkedPort, outbound: Outbound) -> list[dict[str, Any]]:
    """The routes without what gRPC would refuse, and those that only a verified token leads to: gRPC verifies none, and
    would take such a route for everybody's. What it ignores otherwise stays.
    """
    every = routes.http_routes(service.http, (service.service, port), outbound)
    return [_understood(route) for route in every if not _needs_claim(route)]


def _needs_claim(route: dict[str, Any]) -> bool:
    return any(not claim.get("invert") for claim in route["match"].get("dynamic_metadata", ()))


def _understood(route: dict[str, Any]) -> dict[str, Any]:
    made = dict(route)
    matching = dict(made["match"])
    matching.pop("dynamic_metadata", None)  # only that a claim is not there, which is so
    segments = matching.pop("path_separated_prefix", None)
    if segments is not None:
        matching["safe_regex"] = {"regex": f"{quoted(segments)}(/.*)?"}
    made["match"] = matching
    filters = {
        name: config for name, config in made.pop("typed_per_filter_config", {}).items() if name == fault.NAME
    }
    if filters:
        made["typed_per_filter_config"] = filters
    action = made.get("route")
    if action is not None:
        made["route"] = _understood_action(action)
    return made


def _understood_action(action: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        key: action[key] for key in ("cluster", "weighted_clusters", "hash_policy") if key in action
    }
    timeout = action["timeout"]
    if timeout != {"seconds": 0}:
        kept["max_stream_duration"] = {"max_stream_duration": timeout}
    retry = action.get("retry_policy")
    conditions = (
        [] if retry is None else [each for each in retry["retry_on"].split(",") if each in _RETRIABLE]
    )
    if retry is not None and conditions:
        kept["retry_policy"] = {"retry_on": ",".join(conditions), "num_retries": retry["num_retries"]}
        if "retry_back_off" in retry:
            kept["retry_policy"]["retry_back_off"] = retry["retry_back_off"]
    return kept

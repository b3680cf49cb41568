"""CUSTOM policies: which requests an external authorizer is asked about, and how.

As Istio does it: shadow rules find out whether a policy selects the request and leave its name in metadata; the
authorization filter behind them acts on requests that have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tulle.model.access import AccessAction, AccessPolicy, Guard
from tulle.model.authorizers import Authorizer, HttpCheck
from tulle.xds import names
from tulle.xds.filters import rbac
from tulle.xds.wire import duration, extension

NAME = "envoy.filters.http.ext_authz"
NETWORK_NAME = "envoy.filters.network.ext_authz"
_NETWORK_TYPE = "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz"
_TYPE = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"


def http_filters(guard: Guard, port: int) -> Iterator[dict[str, Any]]:
    """Two filters for each authorizer; where one is not there to be asked, everything is refused."""
    asked: dict[Authorizer, list[AccessPolicy]] = {}
    for policy in guard.access:
        if policy.action is not AccessAction.CUSTOM or policy.dry_run:
            continue
        if policy.authorizer is None:
            meta = policy.meta
            yield rbac.refuse_everything(names.missing_authorizer(meta.namespace, meta.name))
            return
        asked.setdefault(policy.authorizer, []).append(policy)
    for index, (authorizer, policies) in enumerate(asked.items()):
        rules = rbac.selecting(policies, port)
        if rules:
            prefix = names.authorizer_metadata(index)
            shadow = {"action": "DENY", "policies": rules}
            yield extension(rbac.NAME, rbac.HTTP, shadow_rules=shadow, shadow_rules_stat_prefix=prefix)
            yield _filter(authorizer, prefix)


def network_filters(guard: Guard, port: int, stat_prefix: str) -> Iterator[dict[str, Any]]:
    """The same for a connection. Authorizers over HTTP are shown requests, and one that is not there nothing: what is
    for those to decide is refused.
    """
    asked: dict[Authorizer, list[AccessPolicy]] = {}
    unaskable = []
    for policy in guard.access:
        if policy.action is AccessAction.CUSTOM and not policy.dry_run:
            if policy.authorizer is None or policy.authorizer.http is not None:
                unaskable.append(policy)
            else:
                asked.setdefault(policy.authorizer, []).append(policy)
    refused = rbac.selecting_connections(unaskable, port)
    if refused:
        yield rbac.refuse_connections(refused, stat_prefix)
    for index, (authorizer, policies) in enumerate(asked.items()):
        rules = rbac.selecting_connections(policies, port)
        if rules:
            prefix = names.authorizer_metadata(index)
            shadow = {"action": "DENY", "policies": rules}
            about = {"shadow_rules": shadow, "shadow_rules_stat_prefix": prefix, "stat_prefix": f"{stat_prefix}."}
            yield extension(rbac.NETWORK_NAME, rbac.NETWORK, **about)
            yield _network_filter(authorizer, prefix, stat_prefix)


def _network_filter(authorizer: Authorizer, prefix: str, stat_prefix: str) -> dict[str, Any]:
    return extension(
        NETWORK_NAME,
        _NETWORK_TYPE,
        stat_prefix=f"{stat_prefix}.",
        transport_api_version="V3",
        failure_mode_allow=authorizer.fail_open,
        filter_enabled_metadata=_selected(rbac.NETWORK_NAME, prefix),
        grpc_service=_grpc(authorizer),
    )


def _selected(by: str, prefix: str) -> dict[str, Any]:
    path = [{"key": f"{prefix}shadow_effective_policy_id"}]
    return {"filter": by, "path": path, "value": {"present_match": True}}


def _grpc(authorizer: Authorizer) -> dict[str, Any]:
    assert authorizer.host is not None
    cluster = names.outbound_cluster(authorizer.host, authorizer.port)
    target = {"cluster_name": cluster, "authority": f"{authorizer.host}:{authorizer.port}"}
    return {"envoy_grpc": target, "timeout": duration(authorizer.timeout)}


def _filter(authorizer: Authorizer, prefix: str) -> dict[str, Any]:
    assert authorizer.host is not None
    fields: dict[str, Any] = {
        "transport_api_version": "V3",
        "failure_mode_allow": authorizer.fail_open,
        "status_on_error": {"code": authorizer.status},
        "clear_route_cache": authorizer.clear_route_cache,
        "filter_enabled_metadata": _selected(rbac.NAME, prefix),
    }
    if authorizer.body is not None:
        fields["with_request_body"] = {
            "max_request_bytes": authorizer.body.max_bytes,
            "allow_partial_message": authorizer.body.partial,
            "pack_as_bytes": authorizer.body.as_bytes,
        }
    cluster = names.outbound_cluster(authorizer.host, authorizer.port)
    address = f"{authorizer.host}:{authorizer.port}"
    timeout = duration(authorizer.timeout)
    if authorizer.http is None:
        fields["grpc_service"] = _grpc(authorizer)
    else:
        fields["http_service"] = {
            "server_uri": {"uri": f"http://{address}", "cluster": cluster, "timeout": timeout},
            **_http(authorizer.http),
        }
        if authorizer.http.shown_headers:
            fields["allowed_headers"] = _patterns((*authorizer.http.shown_headers, "authorization"))
    return extension(NAME, _TYPE, **fields)


def _http(check: HttpCheck) -> dict[str, Any]:
    response: dict[str, Any] = {}
    if check.to_upstream:
        response["allowed_upstream_headers"] = _patterns(check.to_upstream)
    if check.to_client_on_refusal:
        response["allowed_client_headers"] = _patterns(check.to_client_on_refusal)
    if check.to_client_on_success:
        response["allowed_client_headers_on_success"] = _patterns(check.to_client_on_success)
    fields: dict[str, Any] = {"path_prefix": check.path_prefix}
    if check.added_headers:
        added = [{"key": name, "value": value} for name, value in check.added_headers]
        fields["authorization_request"] = {"headers_to_add": added}
    if response:
        fields["authorization_response"] = response
    return fields


def _patterns(written: tuple[str, ...]) -> dict[str, Any]:
    return {"patterns": [_pattern(each) for each in dict.fromkeys(written)]}


def _pattern(written: str) -> dict[str, Any]:
    if written == "*":
        return {"safe_regex": {"regex": ".*"}}
    if written.startswith("*"):
        return {"suffix": written[1:], "ignore_case": True}
    if written.endswith("*"):
        return {"prefix": written[:-1], "ignore_case": True}
    return {"exact": written, "ignore_case": True}

"""What a rule does, as Envoy's RouteAction, RedirectAction and DirectResponseAction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tulle.model.matching import PathKind, RouteMatch
from tulle.model.policies import (
    ConsistentHash,
    HashCookie,
    HashHeader,
    HashKey,
    HashQuery,
    HashSourceIp,
)
from tulle.model.routes import (
    Destination,
    DirectResponse,
    Forward,
    HeaderOps,
    HeaderRules,
    HttpRule,
    Redirect,
    Retry,
    RetryOn,
    Rewrite,
)
from tulle.xds.wire import duration, extension, percent_of_million, wrapped

DEFAULT_RETRY = Retry(
    attempts=2,
    on=(
        RetryOn.CONNECT_FAILURE,
        RetryOn.REFUSED_STREAM,
        RetryOn.GRPC_UNAVAILABLE,
        RetryOn.GRPC_CANCELLED,
        RetryOn.RETRIABLE_STATUS_CODES,
    ),
    status_codes=(503,),
)
"""Istio's default retries, for rules that do not say anything about them."""

_AUTHORITY_HEADERS = (":authority", "host")
_REDIRECTS = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


@dataclass(frozen=True, slots=True)
class Named:
    """A destination with the cluster it means and how that balances."""

    destination: Destination
    cluster: str
    hash_keys: tuple[HashKey, ...]


Naming = Callable[[Destination], Named]
"""Finds the cluster of a destination."""


def forward(rule: HttpRule, action: Forward, match: RouteMatch | None, name: Naming) -> dict[str, Any]:
    """The fields of a Route that forwards. Weights stay as given; all 0 is answered 503."""
    named = [name(each) for each in action.destinations]
    if not any(each.destination.weight for each in named):
        return {"direct_response": {"status": 503}, **_header_fields(rule.headers)}
    route: dict[str, Any] = {"timeout": {"seconds": 0} if rule.timeout is None else duration(rule.timeout)}
    headers = rule.headers
    if len(named) == 1:
        route["cluster"] = named[0].cluster
        headers = _joined(headers, named[0].destination.headers)
    else:
        route["weighted_clusters"] = {"clusters": [_weighted(each) for each in named]}
    route |= _rewritten(rule.rewrite or Rewrite(), headers, match)
    retry = retry_policy(rule.retry)
    if retry is not None:
        route["retry_policy"] = retry
    hashes = list(dict.fromkeys(key for each in named for key in each.hash_keys))
    if hashes:
        route["hash_policy"] = [hash_policy(key) for key in hashes]
    if rule.mirrors:
        route["request_mirror_policies"] = [
            {
                "cluster": name(mirror.destination).cluster,
                "runtime_fraction": {"default_value": percent_of_million(mirror.percent.millionths)},
            }
            for mirror in rule.mirrors
        ]
    return {"route": route, **_header_fields(headers)}


def _weighted(named: Named) -> dict[str, Any]:
    made = {
        "name": named.cluster,
        "weight": wrapped(named.destination.weight),
        **_header_fields(named.destination.headers),
    }
    authority = _authority(named.destination.headers)
    if authority is not None:
        made["host_rewrite_literal"] = authority
    return made


def _joined(first: HeaderRules, then: HeaderRules) -> HeaderRules:
    def join(a: HeaderOps, b: HeaderOps) -> HeaderOps:
        return HeaderOps((*a.set, *b.set), (*a.add, *b.add), (*a.remove, *b.remove))

    return HeaderRules(join(first.request, then.request), join(first.response, then.response))


def _authority(headers: HeaderRules) -> str | None:
    """A Host that the rule sets: Envoy takes it as a rewrite, not as a header."""
    found = [each.value for each in headers.request.set if each.name.lower() in _AUTHORITY_HEADERS]
    return found[-1] if found else None


def _header_fields(headers: HeaderRules) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for prefix, ops in (("request", headers.request), ("response", headers.response)):
        added = [
            {"header": {"key": each.name, "value": each.value}, "append_action": action}
            for values, action in (
                (ops.set, "OVERWRITE_IF_EXISTS_OR_ADD"),
                (ops.add, "APPEND_IF_EXISTS_OR_ADD"),
            )
            for each in values
            if each.name.lower() not in _AUTHORITY_HEADERS
        ]
        if added:
            made[f"{prefix}_headers_to_add"] = added
        if ops.remove:
            made[f"{prefix}_headers_to_remove"] = list(dict.fromkeys(ops.remove))
    return made


def _rewritten(rewrite: Rewrite, headers: HeaderRules, match: RouteMatch | None) -> dict[str, Any]:
    made: dict[str, Any] = {}
    authority = rewrite.authority or _authority(headers)
    if authority is not None:
        made["host_rewrite_literal"] = authority
    path = None if match is None else match.path
    if rewrite.full_path is not None:
        made["regex_rewrite"] = _rewrite_all(rewrite.full_path)
    elif rewrite.regex is not None:
        made["regex_rewrite"] = {
            "pattern": {"regex": rewrite.regex.pattern},
            "substitution": rewrite.regex.substitution,
        }
    elif rewrite.prefix is not None and path is not None and path.kind is PathKind.REGEX:
        made["regex_rewrite"] = {"pattern": {"regex": path.value}, "substitution": _literal(rewrite.prefix)}
    elif rewrite.prefix is not None and path is not None and path.kind is PathKind.SEGMENTS:
        made["regex_rewrite"] = _rewrite_segments(path.value, rewrite.prefix)
    elif rewrite.prefix is not None:
        made["prefix_rewrite"] = rewrite.prefix
    return made


def _rewrite_all(path: str) -> dict[str, Any]:
    return {"pattern": {"regex": "^/.*$"}, "substitution": _literal(path)}


def _rewrite_segments(matched: str, prefix: str) -> dict[str, Any]:
    """`/a` → `/` of `/a/b` is `/b`, not `//b`, and of `/a` alone `/`: what prefix_rewrite would get wrong."""
    stem = quoted(matched.rstrip("/"))
    if prefix.rstrip("/"):
        return {"pattern": {"regex": f"^{stem}"}, "substitution": _literal(prefix.rstrip("/"))}
    return {"pattern": {"regex": f"^{stem}/*"}, "substitution": "/"}


def quoted(text: str) -> str:
    """Quoted for RE2: every character that is special there, and no other."""
    return "".join(f"\\{c}" if c in r"\.+*?()|[]{}^$" else c for c in text)


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\")


def retry_policy(retry: Retry | None) -> dict[str, Any] | None:
    """The RetryPolicy, with Istio's default where the rule says nothing; None for no retries."""
    chosen = DEFAULT_RETRY if retry is None else retry
    if chosen.attempts <= 0:
        return None
    source = chosen if chosen.on or chosen.status_codes else DEFAULT_RETRY
    conditions = list(source.on)
    if source.status_codes and RetryOn.RETRIABLE_STATUS_CODES not in conditions:
        conditions.append(RetryOn.RETRIABLE_STATUS_CODES)
    made: dict[str, Any] = {
        "retry_on": ",".join(conditions),
        "num_retries": wrapped(chosen.attempts),
        "retriable_status_codes": list(source.status_codes),
    }
    if not chosen.keep_previous_hosts:
        made["retry_host_predicate"] = [
            extension(
                "envoy.retry_host_predicates.previous_hosts",
                "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ]
        made["host_selection_retry_max_attempts"] = 5
    if chosen.per_try_timeout is not None:
        made["per_try_timeout"] = duration(chosen.per_try_timeout)
    if chosen.backoff is not None:
        made["retry_back_off"] = {"base_interval": duration(chosen.backoff)}
        if chosen.max_backoff is not None:
            made["retry_back_off"]["max_interval"] = duration(max(chosen.max_backoff, chosen.backoff))
    if chosen.other_localities:
        made["retry_priority"] = extension(
            "envoy.retry_priorities.previous_priorities",
            "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
            update_frequency=2,
        )
    return made


def hash_keys(method: object) -> tuple[HashKey, ...]:
    """The keys of a consistent hash; none for other methods."""
    return method.keys if isinstance(method, ConsistentHash) else ()


def hash_policy(key: HashKey) -> dict[str, Any]:
    """One hash policy. A cookie without a life is only read; zero makes a session cookie."""
    if isinstance(key, HashHeader):
        return {"header": {"header_name": key.name}}
    if isinstance(key, HashCookie):
        cookie: dict[str, Any] = {"name": key.name}
        if key.ttl is not None:
            cookie["ttl"] = duration(key.ttl)
        if key.path is not None:
            cookie["path"] = key.path
        return {"cookie": cookie}
    if isinstance(key, HashQuery):
        return {"query_parameter": {"name": key.name}}
    assert isinstance(key, HashSourceIp)
    return {"connection_properties": {"source_ip": True}}


def redirect(rule: HttpRule, action: Redirect) -> dict[str, Any]:
    """The fields of a Route that redirects."""
    said = {
        "path_redirect": action.path,
        "prefix_rewrite": action.prefix if action.path is None else None,
        "host_redirect": action.authority,
        "scheme_redirect": action.scheme,
        "port_redirect": action.port,
    }
    made: dict[str, Any] = {key: value for key, value in said.items() if value is not None}
    made["response_code"] = _REDIRECTS[action.status]
    if action.scheme_port and action.scheme is not None:
        made["port_redirect"] = 443 if action.scheme == "https" else 80
    return {"redirect": made, **_header_fields(rule.headers)}


def direct_response(rule: HttpRule, action: DirectResponse) -> dict[str, Any]:
    """The fields of a Route that answers by itself."""
    made: dict[str, Any] = {"status": action.status}
    if action.body is not None:
        made["body"] = {"inline_bytes": action.body}
    return {"direct_response": made, **_header_fields(rule.headers)}

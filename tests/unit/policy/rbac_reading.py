"""Reads RBAC filters as Envoy's documentation says, over plain data: what the emitted policies mean."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any

from tulle.policy.request import Call
from tulle.protos import message, to_dict

METADATA = "envoy.filters.http.jwt_authn"


def allows(filters: Iterable[dict[str, Any]], call: Call) -> bool:
    """Whether a call passes the `rules` of all filters."""
    return all(_passes(config.get("rules"), call) for config in opened(filters))


def shadow_allows(filters: Iterable[dict[str, Any]], call: Call) -> bool:
    """Whether it would pass their `shadow_rules`."""
    return all(_passes(config.get("shadow_rules"), call) for config in opened(filters))


def opened(filters: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The filters' configurations as plain data."""
    made = []
    for each in filters:
        packed = each["typed_config"]
        made.append(to_dict(message(packed.type_url.rpartition("/")[2]).FromString(packed.value)))
    return made


def _passes(rules: dict[str, Any] | None, call: Call) -> bool:
    if rules is None:
        return True
    matched = any(_policy(each, call) for each in rules.get("policies", {}).values())
    return {"ALLOW": matched, "DENY": not matched, "LOG": True}[rules.get("action", "ALLOW")]


def _policy(policy: dict[str, Any], call: Call) -> bool:
    return any(_term(each, call) for each in policy["permissions"]) and any(
        _term(each, call) for each in policy["principals"]
    )


def _term(term: dict[str, Any], call: Call) -> bool:
    ((kind, body),) = term.items()
    match kind:
        case "any":
            return bool(body)
        case "and_ids" | "and_rules":
            return all(_term(each, call) for each in body.get("ids", body.get("rules")))
        case "or_ids" | "or_rules":
            return any(_term(each, call) for each in body.get("ids", body.get("rules")))
        case "not_id" | "not_rule":
            return not _term(body, call)
        case "authenticated":
            return call.principal is not None and _text(body["principal_name"], f"spiffe://{call.principal}")
        case "direct_remote_ip":
            return _cidr(body, call.source_ip)
        case "remote_ip":
            return _cidr(body, call.remote_ip)
        case "destination_ip":
            return _cidr(body, call.destination_ip)
        case "requested_server_name":
            return _text(body, call.server_name)
        case "url_path":
            return call.http is not None and _text(body["path"], call.http.path)
        case "header":
            return _header(body, call)
        case "metadata":
            return _metadata(body, call)
    raise AssertionError(f"unknown term {kind}")


def _header(body: dict[str, Any], call: Call) -> bool:
    if call.http is None:
        return False
    known = {":authority": call.http.host, ":method": call.http.method, **call.http.headers}
    if body["name"] not in known:
        return False
    return bool(body.get("present_match")) or _text(body["string_match"], known[body["name"]])


def _metadata(body: dict[str, Any], call: Call) -> bool:
    assert body["filter"] == METADATA
    found: Any = {"payload": call.http.claims} if call.http is not None else {}
    for step in body["path"]:
        found = found.get(step["key"]) if isinstance(found, dict) else None
    return any(_value(each, found) for each in body["value"]["or_match"]["value_matchers"])


def _value(matcher: dict[str, Any], found: Any) -> bool:
    if "string_match" in matcher:
        return isinstance(found, str) and _text(matcher["string_match"], found)
    return isinstance(found, list) and any(_value(matcher["list_match"]["one_of"], each) for each in found)


def _text(matcher: dict[str, Any], actual: str) -> bool:
    matcher = dict(matcher)
    if matcher.pop("ignore_case", False):
        matcher = {kind: value.lower() for kind, value in matcher.items() if kind != "safe_regex"} | {
            kind: value for kind, value in matcher.items() if kind == "safe_regex"
        }
        actual = actual.lower()
    ((kind, wanted),) = matcher.items()
    match kind:
        case "exact":
            return actual == wanted
        case "prefix":
            return actual.startswith(wanted)
        case "suffix":
            return actual.endswith(wanted)
        case "safe_regex":
            return re.fullmatch(wanted["regex"], actual) is not None
    raise AssertionError(f"unknown match {kind}")


def _cidr(body: dict[str, Any], actual: str) -> bool:
    network = ipaddress.ip_network(f"{body['address_prefix']}/{body.get('prefix_len', 0)}", strict=False)
    return ipaddress.ip_address(actual) in network

"""Makes the Envoy bootstrap of a case: fills in what the case leaves out and puts in the ports of this run."""

from __future__ import annotations

import base64
import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from differ import discovery
from differ.case import Call, Case, Step
from differ.pki import Pki, spiffe

TYPE = "type.googleapis.com/"
HTTP_OPTIONS = TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
HCM = TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = TYPE + "envoy.extensions.filters.http.router.v3.Router"
FILE_LOG = TYPE + "envoy.extensions.access_loggers.file.v3.FileAccessLog"

LOG_FIELDS = {
    "peer": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "route": "%ROUTE_NAME%",
    "protocol": "%PROTOCOL%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "received": "%BYTES_RECEIVED%",
    "sent": "%BYTES_SENT%",
    "host": "%UPSTREAM_HOST%",
}
"""The access log of every listener of every case."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has chosen: ports by upstream and listener, certificates, and where the access log goes.

    `listeners` are the proxy's own; clusters that lead to a listener take the port from `peers`, which are the same
    when a case has one proxy and the other proxy's when it has a pair. `discovery` is the port of the control plane,
    where there is one.
    """

    upstreams: dict[str, int]
    listeners: dict[str, int]
    peers: dict[str, int]
    pki: Pki
    log: Path
    discovery: int | None = None

    def file(self, name: str) -> str:
        """The path of a file of the case, beside the access log."""
        return str(self.log.parent / f"{name}.yaml")


def listener_names(case: Case) -> list[str]:
    """The listeners that a case's bootstrap has."""
    return list(case.listeners) or ["main"]


def bootstrap(case: Case, plan: Plan) -> dict[str, Any]:
    """The whole bootstrap, as JSON-like data."""
    listeners = [_listener(case, name, case.listeners.get(name, {}), plan) for name in listener_names(case)]
    clusters = [_cluster(case, name, given) for name, given in _clusters(case).items()]
    made = {
        "node": {"id": "sidecar~127.0.0.1~test.default~default.svc.cluster.local", "cluster": "test.default"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }
    given = copy.deepcopy(case.bootstrap)
    made["node"] |= given.pop("node", {})
    made |= given
    if plan.discovery is not None:
        made = discovery.bootstrap(plan.discovery, made, case.variant)
    return dict(json.loads(fill(json.dumps(made), plan)))


def fill(text: str, plan: Plan) -> str:
    """Replace `"${port:<upstream>}"`, `"${listener:<name>}"` and, inside texts, `${root|cert|key|id|file:<name>}`."""

    def value(match: re.Match[str]) -> str:
        kind, name = match.group(1), match.group(2)
        files = {"root": plan.pki.root, "cert": plan.pki.chain, "key": plan.pki.key, "file": plan.file}
        return files[kind](name) if kind in files else spiffe(name)

    text = re.sub(r'"\$\{port:(\w+)\}"', lambda match: str(plan.upstreams[match.group(1)]), text)
    text = re.sub(r'"\$\{own:(\w+)\}"', lambda match: str(plan.listeners[match.group(1)]), text)
    text = re.sub(r'"\$\{listener:(\w+)\}"', lambda match: str(plan.peers[match.group(1)]), text)
    return re.sub(r"\$\{(root|cert|key|id|file):(\w+)\}", value, text)


def filled_call(call: Call, upstreams: dict[str, int]) -> Call:
    """The call with `${session:<upstream>}` and `${address:<upstream>}` put into what its steps send: the base64 of an
    upstream's address as a session cookie (Envoy's message, its first field) and a session header hold it.
    """

    def value(match: re.Match[str]) -> str:
        text = f"127.0.0.1:{upstreams[match.group(2)]}".encode()
        content = b"\x0a" + bytes([len(text)]) + text if match.group(1) == "session" else text
        return base64.b64encode(content).decode()

    def filled(step: Step) -> Step:
        if step.raw is None:
            return step
        return Step(raw=re.sub(r"\$\{(session|address):(\w+)\}", value, step.raw))

    return call.model_copy(update={"steps": tuple(filled(step) for step in call.steps)})


def address(host: str, port: int | str) -> dict[str, Any]:
    """A socket address."""
    return {"socket_address": {"address": host, "port_value": port}}


def _clusters(case: Case) -> dict[str, dict[str, Any]]:
    return case.clusters or {name: {} for name in case.upstreams}


def _cluster(case: Case, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """A STATIC cluster over `endpoints` (names of upstreams; the cluster's own name by default)."""
    given = dict(given)
    endpoints = given.pop("endpoints", [name])
    lb = [{"endpoint": {"address": address("127.0.0.1", f"${{port:{each}}}")}} for each in endpoints]
    made: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": lb}]},
    }
    kinds = {case.upstreams[each].protocol for each in endpoints if each in case.upstreams}
    if kinds == {"h2"} and "typed_extension_protocol_options" not in given:
        options = {"@type": HTTP_OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}
        made["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        }
    return made | given


def _listener(case: Case, name: str, given: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """A listener on its chosen port; `hcm` in it goes over the case's, `filter_chains` replaces everything.

    `log_filter` says which lines its log has, and `connection_log` is that of lines which the listener itself writes.
    """
    given = copy.deepcopy(given)
    log = _log(case, plan, given.pop("log_filter", None))
    if "connection_log" in given:
        given["access_log"] = [_log(case, plan, given.pop("connection_log"))]
    manager = case.hcm | given.pop("hcm", {})
    routes = given.pop("routes", case.routes)
    made: dict[str, Any] = {"name": name, "address": address("127.0.0.1", f"${{own:{name}}}")}
    tls = given.pop("transport_socket", None)
    chain: dict[str, Any] = {"filters": given.pop("filters", None) or [_manager(case, routes, manager)]}
    if tls is not None:
        chain["transport_socket"] = tls
    made["filter_chains"] = [chain]
    made |= given
    for each in made["filter_chains"]:
        for filter_ in each["filters"]:
            config = filter_.get("typed_config", {})
            if config.get("@type", "").endswith(("TcpProxy", "HttpConnectionManager")):
                config.setdefault("access_log", [log])
    return made


def _manager(case: Case, routes: list[dict[str, Any]] | None, given: dict[str, Any]) -> dict[str, Any]:
    hosts = case.virtual_hosts
    if hosts is None:
        first = next(iter(_clusters(case)))
        routes = routes or [{"match": {"prefix": "/"}, "route": {"cluster": first}}]
        hosts = [{"name": "all", "domains": ["*"], "routes": routes}]
    config = {
        "@type": HCM,
        "stat_prefix": "test",
        # Envoy leaves a connection that it ends open for a second; the clients here watch for a tenth.
        "delayed_close_timeout": "0.02s",
        "route_config": {"name": "routes", "validate_clusters": False, "virtual_hosts": hosts},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config | given}


def _log(case: Case, plan: Plan, chosen: dict[str, Any] | None) -> dict[str, Any]:
    form = {"json_format": LOG_FIELDS | case.log}
    log = {
        "name": "envoy.access_loggers.file",
        "typed_config": {"@type": FILE_LOG, "path": str(plan.log), "log_format": form},
    }
    return log | ({"filter": chosen} if chosen else {})

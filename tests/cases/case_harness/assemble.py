"""A static bootstrap from a caller's snapshot, so that a proxy needs no control plane to run it.

Only what ties the resources to a control plane or to this machine is replaced: discovery by inlined resources,
listener ports by free ones, endpoint ports by those of the echo servers, identities by ones made for the case,
mTLS towards endpoints by plaintext (those of the common mesh have no sidecar), and one more access log to read
flags and routes from.
"""

from __future__ import annotations

import copy
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from case_harness.render import opened
from harness.identities import Identities
from tulle.xds.bootstrap import ENVOY_RUNTIME
from tulle.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Snapshot

LOG_FORMAT = "%REQ(X-CALL)%\t%RESPONSE_FLAGS%\t%ROUTE_NAME%\t%UPSTREAM_CLUSTER%\t%RESPONSE_CODE%\n"

CERTIFICATES = "/certificates/"
"""The folder that cases' policies name; it stands for the one where the case's files are."""

AddEndpoint = Callable[[str, ssl.SSLContext | None], int]


@dataclass(frozen=True, slots=True)
class Assembled:
    """The bootstrap, and the port of each of its listeners by name."""

    bootstrap: dict[str, Any]
    ports: dict[str, int]


@dataclass(slots=True)
class Assembler:
    """``free_port`` chooses listener ports; ``add_endpoint`` starts an upstream and says its port."""

    free_port: Callable[[], int]
    add_endpoint: AddEndpoint
    log: Path
    identities: Identities
    _endpoints: dict[tuple[str, int], int] = field(default_factory=dict)

    def assemble(self, snapshot: Snapshot, workload: str) -> Assembled:
        """The bootstrap of one workload's proxy."""
        routes = opened(snapshot, ROUTES)
        assignments = opened(snapshot, ENDPOINTS)
        ports: dict[str, int] = {}
        listeners = []
        for name, listener in sorted(opened(snapshot, LISTENER).items()):
            ports[name] = self.free_port()
            made = self._listener(copy.deepcopy(listener), ports[name], routes)
            self._give_identity(made, workload)
            listeners.append(made)
        clusters = [
            self._cluster(copy.deepcopy(cluster), assignments)
            for _, cluster in sorted(opened(snapshot, CLUSTER).items())
        ]
        bootstrap = {
            "node": {
                "id": f"sidecar~127.0.0.1~{workload}.default~default.svc.cluster.local",
                "cluster": "cases",
            },
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "static_resources": {"listeners": listeners, "clusters": clusters},
            "layered_runtime": ENVOY_RUNTIME,
        }
        return Assembled(bootstrap, ports)

    def _listener(self, listener: dict[str, Any], port: int, routes: dict[str, Any]) -> dict[str, Any]:
        listener["address"] = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        chains = [*listener.get("filter_chains", ()), listener.get("default_filter_chain", {})]
        for chain in chains:
            for each in chain.get("filters", ()):
                config = each.get("typed_config", {})
                if "sni_dynamic_forward_proxy" in config.get("@type", ""):
                    named = chain["filter_chain_match"]["server_names"][0].replace("*", "a")
                    config["port_value"] = self.add_endpoint(named, self.identities.server(named))
                if "rds" in config:
                    config["route_config"] = routes[config.pop("rds")["route_config_name"]]
                if config.get("@type", "").endswith("HttpConnectionManager"):
                    config.setdefault("access_log", []).append(self._access_log())
        return listener

    def _give_identity(self, listener: dict[str, Any], workload: str) -> None:
        """Certificates inline instead of those that an agent would have."""
        for chain in listener.get("filter_chains", ()):
            if "transport_socket" in chain:
                context = chain["transport_socket"]["typed_config"]["common_tls_context"]
                context.pop("tls_certificate_sds_secret_configs")
                own = self.identities.identity("default", workload)
                context["tls_certificates"] = [
                    {
                        "certificate_chain": {"inline_string": own.certificate},
                        "private_key": {"inline_string": own.key},
                    }
                ]
                peers = context.pop("combined_validation_context")["default_validation_context"]
                context["validation_context"] = {
                    **peers,
                    "trusted_ca": {"inline_string": self.identities.root},
                }

    def _access_log(self) -> dict[str, Any]:
        return {
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": str(self.log),
                "log_format": {"text_format_source": {"inline_string": LOG_FORMAT}},
            },
        }

    def _cluster(self, cluster: dict[str, Any], assignments: dict[str, Any]) -> dict[str, Any]:
        cluster.pop("transport_socket_matches", None)
        if "eds_cluster_config" in cluster:
            name = cluster.pop("eds_cluster_config").get("service_name") or cluster["name"]
            cluster["type"] = "STATIC"
            cluster["load_assignment"] = copy.deepcopy(assignments[name])
        tls = None
        if "transport_socket" in cluster:
            self._replace_files(cluster["transport_socket"])
            tls = self.identities.server(cluster["name"].rpartition("|")[2])
        self._replace_ports(cluster.get("load_assignment", {}), tls)
        return cluster

    def _replace_files(self, value: Any) -> None:
        if isinstance(value, dict):
            name = value.get("filename")
            if isinstance(name, str) and name.startswith(CERTIFICATES):
                value["filename"] = str(self.log.parent / name.removeprefix(CERTIFICATES))
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            self._replace_files(inner)

    def _replace_ports(self, assignment: dict[str, Any], tls: ssl.SSLContext | None) -> None:
        for locality in assignment.get("endpoints", ()):
            for each in locality.get("lb_endpoints", ()):
                address = each["endpoint"]["address"]["socket_address"]
                key = (address["address"], address["port_value"])
                if key not in self._endpoints:
                    self._endpoints[key] = self.add_endpoint(_name(each, key), tls)
                address["address"] = "127.0.0.1"
                address["port_value"] = self._endpoints[key]


def _name(endpoint: dict[str, Any], address: tuple[str, int]) -> str:
    """The workload's name from Istio's endpoint metadata, or else the address."""
    istio = endpoint.get("metadata", {}).get("filter_metadata", {}).get("istio", {})
    workload: str = istio.get("workload", "").split(";")[0]
    return workload or f"{address[0]}:{address[1]}"

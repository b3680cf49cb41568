"""The configuration files that data planes start with: tulle-proxy's and Envoy's bootstrap, and gRPC's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from tulle.model.meta import Labels, label
from tulle.protos import message, to_dict
from tulle.xds import names
from tulle.xds.cluster_policies import HTTP_OPTIONS, UpstreamHttp, http_options
from tulle.xds.tls import control_plane_client
from tulle.xds.wire import socket_address, struct

SERVER_NAME = "tulle-control-plane"
"""The name that the control plane's certificate carries, whatever its address."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """The workload that a data plane is for, as its node says it."""

    name: str
    namespace: str
    address: str
    service_account: str
    labels: Labels
    domain: str = "cluster.local"
    mesh_id: str = "cluster.local"

    @property
    def id(self) -> str:
        """Istio's node id."""
        return f"sidecar~{self.address}~{self.name}.{self.namespace}~{self.namespace}.svc.{self.domain}"

    @property
    def cluster(self) -> str:
        """Istio's node cluster."""
        return f"{self.name}.{self.namespace}"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server listens; `host` is an IP address or a DNS name."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class CertificatePaths:
    """PEM files, kept fresh by the agent: own chain, own key, trust bundle; and how often gRPC looks at them."""

    certificate: str
    private_key: str
    trust_bundle: str
    refresh_seconds: int


ENVOY_DRAIN_SECONDS = 3
"""How long Envoy goes on with connections that it accepted under a listener which has changed: what a revocation may
cut gets that long to end by itself, which leaves two seconds of five for the revocation to get there.
"""

ENVOY_RECONNECTS: Mapping[str, Any] = {
    "retry_back_off": {"base_interval": {"nanos": 500_000_000}, "max_interval": {"seconds": 5}}
}
"""Between an Envoy's attempts to reach the control plane, with jitter; by itself it waits up to half a minute."""

ENVOY_RUNTIME: Mapping[str, Any] = {
    "layers": [{"name": "tulle", "static_layer": {"re2.max_program_size.error_level": 32768}}]
}
"""Envoy's own limit of 100 refuses whole route tables for an honest regex or two; Istio has this one too."""


def proxy_bootstrap(
    node: NodeIdentity, admin_port: int, xds: ServerAddress, zipkin: ServerAddress | None = None
) -> dict[str, Any]:
    """tulle-proxy's bootstrap, which is an Envoy v3 Bootstrap; its own identity is behind `sds-grpc`."""
    return to_dict(_bootstrap(node, admin_port, [_xds_cluster(xds)], zipkin))


def envoy_bootstrap(
    node: NodeIdentity,
    admin_port: int,
    xds: ServerAddress,
    sds_socket: str,
    zipkin: ServerAddress | None = None,
) -> dict[str, Any]:
    """Envoy's bootstrap: the same, with the agent's Unix socket as the server of secrets. It has to be started with
    `--drain-time-s` `ENVOY_DRAIN_SECONDS`, which it tells the control plane.
    """
    clusters = [_xds_cluster(xds), _sds_cluster(sds_socket)]
    made = _bootstrap(node, admin_port, clusters, zipkin)
    made.node.metadata.fields["DRAIN_SECONDS"].number_value = ENVOY_DRAIN_SECONDS
    for service in made.dynamic_resources.ads_config.grpc_services:
        service.retry_policy.MergeFrom(message("envoy.config.core.v3.RetryPolicy")(**ENVOY_RECONNECTS))
    return {**to_dict(made), "layered_runtime": ENVOY_RUNTIME}


def grpc_bootstrap(node: NodeIdentity, xds: ServerAddress, files: CertificatePaths) -> dict[str, Any]:
    """A proxyless gRPC client's bootstrap (gRFC A27, A29, A65), for GRPC_XDS_BOOTSTRAP.

    The control plane's certificate is checked against the host of `xds`, so it must carry that.
    """
    certificates = {
        "certificate_file": files.certificate,
        "private_key_file": files.private_key,
        "ca_certificate_file": files.trust_bundle,
        "refresh_interval": f"{files.refresh_seconds}s",
    }
    return {
        "xds_servers": [
            {
                "server_uri": str(xds),
                "channel_creds": [{"type": "tls", "config": certificates}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": to_dict(_node(node)),
        "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": certificates}},
    }


def _bootstrap(node: NodeIdentity, admin_port: int, clusters: list[Any], zipkin: ServerAddress | None) -> Any:
    if zipkin is not None:
        clusters.append(_zipkin_cluster(zipkin))
    over_ads = {"ads": {}, "resource_api_version": "V3"}
    return message("envoy.config.bootstrap.v3.Bootstrap")(
        node=_node(node),
        admin={"address": socket_address("127.0.0.1", admin_port)},
        dynamic_resources={
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": names.XDS_CLUSTER}}],
            },
            "cds_config": over_ads,
            "lds_config": over_ads,
        },
        static_resources={"clusters": clusters},
    )


def _node(node: NodeIdentity) -> Any:
    made = message("envoy.config.core.v3.Node")(id=node.id, cluster=node.cluster)
    known = {
        "NAMESPACE": node.namespace,
        "WORKLOAD_NAME": node.name,
        "SERVICE_ACCOUNT": node.service_account,
        "MESH_ID": node.mesh_id,
        "CLUSTER_ID": "Kubernetes",
    }
    version = label(node.labels, "version")
    if version is not None:
        known["APP_VERSION"] = version
    made.metadata.CopyFrom(struct(known))
    made.metadata.fields["LABELS"].struct_value.CopyFrom(struct(dict(node.labels)))
    return made


def _static_cluster(name: str, server: ServerAddress) -> Any:
    return message("envoy.config.cluster.v3.Cluster")(
        name=name,
        type="STATIC" if _is_ip(server.host) else "STRICT_DNS",
        connect_timeout={"seconds": 5},
        load_assignment=_one_endpoint(name, socket_address(server.host, server.port)),
    )


def _one_endpoint(name: str, address: dict[str, Any]) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _xds_cluster(server: ServerAddress) -> Any:
    made = _static_cluster(names.XDS_CLUSTER, server)
    made.transport_socket.MergeFrom(
        message("envoy.config.core.v3.TransportSocket")(**control_plane_client(SERVER_NAME))
    )
    keepalive = made.upstream_connection_options.tcp_keepalive
    keepalive.keepalive_time.value = 300
    made.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(http_options(UpstreamHttp.HTTP2))
    return made


def _sds_cluster(socket: str) -> Any:
    made = message("envoy.config.cluster.v3.Cluster")(
        name=names.SDS_CLUSTER,
        type="STATIC",
        connect_timeout={"seconds": 1},
        load_assignment=_one_endpoint(names.SDS_CLUSTER, {"pipe": {"path": socket}}),
    )
    made.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(http_options(UpstreamHttp.HTTP2))
    return made


def _zipkin_cluster(server: ServerAddress) -> Any:
    return _static_cluster(names.ZIPKIN_CLUSTER, server)

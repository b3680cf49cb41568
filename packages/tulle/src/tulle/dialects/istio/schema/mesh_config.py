"""MeshConfig, in its ConfigMap and in an IstioOperator: https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tulle.dialects.fields import DnsLabel, PercentFloat, Schema, Subdomain, Unsupported
from tulle.dialects.istio.schema.common import Later
from tulle.dialects.istio.schema.extension_provider import ExtensionProvider
from tulle.dialects.metadata import Envelope

_INSTALL = Unsupported("Tulle is not installed by it")
_HERE = Unsupported("it is said where the control plane or the workload is started")


class TrafficPolicyMode(Schema):
    """What becomes of traffic to hosts that nobody declared."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY"] = "ALLOW_ANY"
    egress_proxy: Annotated[Any, Unsupported("route to the egress gateway with a VirtualService")] = None


class PathNormalization(Schema):
    """How far paths are normalized before anything looks at them."""

    normalization: Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = "DEFAULT"


class Tls(Schema):
    """Versions, suites and curves."""

    min_protocol_version: Literal["TLS_AUTO", "TLSV1_2", "TLSV1_3"] = "TLS_AUTO"
    ecdh_curves: list[Literal["P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"]] | None = None
    cipher_suites: list[Annotated[str, Field(pattern=r"^[A-Z0-9_+-]{1,64}$")]] | None = None


class Tracing(Schema):
    """Where spans go and how many."""

    sampling: PercentFloat | None = None
    zipkin: Annotated[Any, _HERE] = None
    lightstep: Annotated[Any, Later] = None
    datadog: Annotated[Any, Later] = None
    stackdriver: Annotated[Any, Later] = None
    open_census_agent: Annotated[Any, Later] = None
    custom_tags: Annotated[Any, Later] = None
    max_path_tag_length: Annotated[Any, Later] = None
    tls_settings: Annotated[Any, Later] = None
    enable_istio_tags: Annotated[Any, Later] = None
    disable_context_propagation: Annotated[Any, Later] = None


class ProxyConfig(Schema):
    """Of ProxyConfig what is about the whole mesh; the rest belongs to single proxies."""

    tracing: Tracing | None = None
    concurrency: Annotated[Any, _HERE] = None
    config_path: Annotated[Any, _HERE] = None
    binary_path: Annotated[Any, _HERE] = None
    discovery_address: Annotated[Any, _HERE] = None
    drain_duration: Annotated[Any, _HERE] = None
    termination_drain_duration: Annotated[Any, _HERE] = None
    status_port: Annotated[Any, _HERE] = None
    proxy_admin_port: Annotated[Any, _HERE] = None
    control_plane_auth_policy: Annotated[Any, _HERE] = None
    proxy_metadata: Annotated[Any, _HERE] = None
    proxy_stats_matcher: Annotated[Any, Later] = None
    hold_application_until_proxy_starts: Annotated[Any, _HERE] = None
    image: Annotated[Any, _INSTALL] = None
    interception_mode: Annotated[Any, _HERE] = None
    gateway_topology: Annotated[Any, Later] = None
    proxy_headers: Annotated[Any, Later] = None
    private_key_provider: Annotated[Any, Later] = None
    envoy_access_log_service: Annotated[Any, Later] = None
    envoy_metrics_service: Annotated[Any, Later] = None
    service_cluster: Annotated[Any, _HERE] = None
    tracing_service_name: Annotated[Any, Later] = None
    stat_name_length: Annotated[Any, _HERE] = None
    readiness_probe: Annotated[Any, _HERE] = None
    ca_certificates_pem: Annotated[Any, Later] = None
    mesh_id: Annotated[Any, _HERE] = None
    extra_stat_tags: Annotated[Any, Later] = None


class MeshConfig(Schema):
    """MeshConfig. What is not given stays as it is."""

    access_log_file: str | None = None
    access_log_format: str | None = None
    access_log_encoding: Literal["TEXT", "JSON"] | None = None
    outbound_traffic_policy: TrafficPolicyMode | None = None
    trust_domain: Subdomain | None = None
    trust_domain_aliases: list[Subdomain] | None = None
    root_namespace: DnsLabel | None = None
    enable_auto_mtls: bool | None = None
    path_normalization: PathNormalization | None = None
    tls_defaults: Tls | None = None
    mesh_mtls: Tls | None = Field(default=None, alias="meshMTLS")
    default_config: ProxyConfig | None = None
    enable_tracing: bool | None = None
    verify_certificate_at_client: Literal[True] = True
    extension_providers: list[ExtensionProvider] | None = None
    default_providers: Annotated[Any, Later] = None
    inbound_traffic_policy: Annotated[Any, Later] = None
    connect_timeout: Annotated[Any, Unsupported("use a DestinationRule's connectionPool")] = None
    tcp_keepalive: Annotated[Any, Unsupported("use a DestinationRule's connectionPool")] = None
    h2_upgrade_policy: Annotated[Any, Unsupported("use a DestinationRule's connectionPool")] = None
    locality_lb_setting: Annotated[Any, Unsupported("use a DestinationRule's localityLbSetting")] = None
    default_http_retry_policy: Annotated[Any, Unsupported("use a VirtualService's retries")] = None
    default_service_export_to: Annotated[Any, Later] = None
    default_virtual_service_export_to: Annotated[Any, Later] = None
    default_destination_rule_export_to: Annotated[Any, Later] = None
    discovery_selectors: Annotated[Any, Later] = None
    service_settings: Annotated[Any, Later] = None
    service_scope_configs: Annotated[Any, Later] = None
    ca_certificates: Annotated[Any, Unsupported("roots are given to the certificate authority")] = None
    certificates: Annotated[Any, Later] = None
    ca: Annotated[Any, Unsupported("the certificate authority is the control plane's own")] = None
    dns_refresh_rate: Annotated[Any, Later] = None
    disable_envoy_listener_log: Annotated[Any, Later] = None
    enable_envoy_access_log_service: Annotated[Any, Later] = None
    enable_prometheus_merge: Annotated[Any, Later] = None
    inbound_cluster_stat_name: Annotated[Any, Later] = None
    outbound_cluster_stat_name: Annotated[Any, Later] = None
    config_sources: Annotated[Any, _HERE] = None
    proxy_listen_port: Annotated[Any, _HERE] = None
    proxy_inbound_listen_port: Annotated[Any, _HERE] = None
    proxy_http_port: Annotated[Any, _HERE] = None
    ingress_class: Annotated[Any, Later] = None
    ingress_service: Annotated[Any, Later] = None
    ingress_controller_mode: Annotated[Any, Later] = None
    ingress_selector: Annotated[Any, Later] = None
    thrift_config: Annotated[Any, Later] = None


class MeshData(Schema):
    """The ConfigMap's data; `mesh` is the text's content."""

    mesh: MeshConfig = MeshConfig()
    mesh_networks: Annotated[Any, Later] = Field(default=None, alias="meshNetworks")


class MeshConfigMap(Envelope):
    """core/v1 ConfigMap `istio`."""

    data: MeshData = MeshData()
    binary_data: Annotated[Any, Later] = None
    immutable: bool | None = None


class IstioOperatorSpec(Schema):
    """Of an IstioOperator only the mesh's configuration means something here."""

    mesh_config: MeshConfig = MeshConfig()
    profile: Annotated[Any, _INSTALL] = None
    install_package_path: Annotated[Any, _INSTALL] = None
    hub: Annotated[Any, _INSTALL] = None
    tag: Annotated[Any, _INSTALL] = None
    resource_suffix: Annotated[Any, _INSTALL] = None
    namespace: Annotated[Any, _INSTALL] = None
    revision: Annotated[Any, _INSTALL] = None
    default_revision: Annotated[Any, _INSTALL] = None
    components: Annotated[Any, _INSTALL] = None
    addon_components: Annotated[Any, _INSTALL] = None
    values: Annotated[Any, _INSTALL] = None
    unvalidated_values: Annotated[Any, _INSTALL] = None
    compatibility_version: Annotated[Any, _INSTALL] = None


class IstioOperator(Envelope):
    """install.istio.io IstioOperator; like MeshSettings for the whole mesh, whatever its namespace."""

    spec: IstioOperatorSpec = IstioOperatorSpec()

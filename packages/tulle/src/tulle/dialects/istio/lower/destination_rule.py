"""Lowers a DestinationRule to a DestinationPolicy."""

from __future__ import annotations

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.istio.lower.balancing import load_balancer, locality
from tulle.dialects.istio.schema import destination_rule as schema
from tulle.dialects.validate import validate
from tulle.dialects.visibility import visibility
from tulle.model.meta import labels
from tulle.model.policies import (
    ClientTls,
    ConnectionPool,
    DestinationPolicy,
    Keepalive,
    OutlierDetection,
    PortPolicy,
    Subset,
    TlsMode,
    TrafficPolicy,
    UpgradePolicy,
)
from tulle.objects import Path, RawObject

_UPGRADE = {
    "DEFAULT": UpgradePolicy.DEFAULT,
    "UPGRADE": UpgradePolicy.UPGRADE,
    "DO_NOT_UPGRADE": UpgradePolicy.DO_NOT_UPGRADE,
}
_TLS = {
    "DISABLE": TlsMode.DISABLE,
    "SIMPLE": TlsMode.SIMPLE,
    "MUTUAL": TlsMode.MUTUAL,
    "ISTIO_MUTUAL": TlsMode.ISTIO_MUTUAL,
}


def destination_rule(obj: RawObject) -> Lowered:
    """DestinationRule → DestinationPolicy."""
    findings = Findings(obj)
    parsed = validate(schema.DestinationRule, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    selector = spec.workload_selector.match_labels if spec.workload_selector else {}
    fragment = DestinationPolicy(
        meta=meta_of(obj),
        host=spec.host,
        policy=_policy(spec.traffic_policy, ("spec", "trafficPolicy"), findings),
        subsets=_subsets(spec.subsets, findings),
        workload_selector=labels(selector),
        visibility=visibility(spec.export_to, obj.namespace, ("spec", "exportTo"), findings),
    )
    return findings.lowered((fragment,))


def _subsets(written: list[schema.Subset], findings: Findings) -> tuple[Subset, ...]:
    subsets: dict[str, Subset] = {}
    for index, subset in enumerate(written):
        at: Path = ("spec", "subsets", index)
        if subset.name in subsets:
            message = f"subset '{subset.name}' is there twice"
            findings.error("duplicate-subset", message, (*at, "name"))
            continue
        if not subset.labels:
            message = f"subset '{subset.name}' has no labels and is all of the host's endpoints"
            findings.warning("subset-without-labels", message, at)
        subsets[subset.name] = Subset(
            source=findings.place((*at, "name")),
            name=subset.name,
            labels=labels(subset.labels),
            policy=_policy(subset.traffic_policy, (*at, "trafficPolicy"), findings),
        )
    return tuple(subsets.values())


def _policy(written: schema.TrafficPolicy | None, path: Path, findings: Findings) -> TrafficPolicy:
    if written is None:
        return TrafficPolicy()
    ports: dict[int, PortPolicy] = {}
    for index, port in enumerate(written.port_level_settings):
        at = (*path, "portLevelSettings", index)
        if port.port.number in ports:
            message = f"port {port.port.number} is there twice"
            findings.error("duplicate-port", message, (*at, "port", "number"))
            continue
        ports[port.port.number] = PortPolicy(port.port.number, _settings(port, at, findings, ()))
    return _settings(written, path, findings, tuple(ports.values()))


def _settings(
    written: schema.TrafficPolicy | schema.PortTrafficPolicy,
    path: Path,
    findings: Findings,
    ports: tuple[PortPolicy, ...],
) -> TrafficPolicy:
    balancer, outlier = written.load_balancer, written.outlier_detection
    balancer_at = (*path, "loadBalancer")
    return TrafficPolicy(
        load_balancer=load_balancer(balancer, balancer_at, findings) if balancer else None,
        connection_pool=_pool(written.connection_pool) if written.connection_pool else None,
        outlier=_outlier(outlier, (*path, "outlierDetection"), findings) if outlier else None,
        tls=_tls(written.tls, (*path, "tls"), findings) if written.tls else None,
        locality=locality(balancer, balancer_at, findings) if balancer else None,
        ports=ports,
    )


def _pool(written: schema.ConnectionPool) -> ConnectionPool:
    """Zero means no limit wherever Istio's default is no limit."""
    tcp, http = written.tcp, written.http
    alive = tcp.tcp_keepalive
    return ConnectionPool(
        max_connections=tcp.max_connections or None,
        connect_timeout=tcp.connect_timeout,
        keepalive=Keepalive(alive.probes, alive.time, alive.interval) if alive else None,
        max_connection_duration=tcp.max_connection_duration,
        max_pending_requests=http.http1_max_pending_requests or None,
        max_requests=http.http2_max_requests or None,
        max_requests_per_connection=http.max_requests_per_connection or None,
        max_retries=http.max_retries or None,
        idle_timeout=http.idle_timeout,
        tcp_idle_timeout=tcp.idle_timeout,
        max_concurrent_streams=http.max_concurrent_streams or None,
        upgrade=_UPGRADE[http.h2_upgrade_policy],
        use_client_protocol=http.use_client_protocol,
    )


def _outlier(written: schema.OutlierDetection, path: Path, findings: Findings) -> OutlierDetection:
    gateway_errors = written.consecutive_gateway_errors
    legacy = written.consecutive_errors
    if legacy is not None:
        at = (*path, "consecutiveErrors")
        newer = written.consecutive5xx_errors is not None or gateway_errors is not None
        message = "consecutiveErrors is the old name; it counts 502, 503, 504 and failed connections"
        if newer:
            message += "; consecutive5xxErrors and consecutiveGatewayErrors win"
            hint = "delete it"
        else:
            gateway_errors = legacy
            hint = f"write consecutiveGatewayErrors: {legacy}; for any 5xx there is consecutive5xxErrors"
        findings.warning("deprecated", message, at, hint)
    if written.min_health_percent:
        share = written.min_health_percent
        message = (
            f"minHealthPercent is the panic threshold: with fewer than {share} % of the endpoints healthy, "
            "ejection is ignored and all of them get traffic"
        )
        hint = (
            "it does not say how many successes close the circuit; an endpoint returns after baseEjectionTime"
        )
        findings.warning("panic-threshold", message, (*path, "minHealthPercent"), hint)
    return OutlierDetection(
        consecutive_5xx=written.consecutive5xx_errors,
        consecutive_gateway_errors=gateway_errors,
        consecutive_local_failures=written.consecutive_local_origin_failures,
        split_local_errors=written.split_external_local_origin_errors,
        interval=written.interval,
        base_ejection_time=written.base_ejection_time,
        max_ejection_percent=written.max_ejection_percent,
        min_health_percent=written.min_health_percent,
    )


def _tls(written: schema.ClientTls, path: Path, findings: Findings) -> ClientTls:
    if written.mode == "MUTUAL" and not written.credential_name:
        for name, value in (
            ("clientCertificate", written.client_certificate),
            ("privateKey", written.private_key),
        ):
            if not value:
                message = f"mode MUTUAL needs {name} or credentialName"
                findings.error("missing-field", message, path)
    if written.credential_name:
        message = "secrets are not read by name yet: without it the certificate would be missing"
        hint = "write clientCertificate, privateKey and caCertificates"
        findings.error("unsupported", message, (*path, "credentialName"), hint)
    if written.mode == "ISTIO_MUTUAL":
        for name, value in (
            ("clientCertificate", written.client_certificate),
            ("privateKey", written.private_key),
            ("caCertificates", written.ca_certificates),
        ):
            if value:
                message = f"mode ISTIO_MUTUAL uses the mesh's own identity, and no {name}"
                findings.error("conflicting-fields", message, (*path, name))
    if written.mode in ("SIMPLE", "MUTUAL") and written.insecure_skip_verify:
        message = "the server's certificate is not checked: anybody can answer in its place"
        findings.warning("insecure", message, (*path, "insecureSkipVerify"))
    return ClientTls(
        mode=_TLS[written.mode],
        sni=written.sni,
        subject_alt_names=tuple(written.subject_alt_names),
        client_certificate=written.client_certificate,
        private_key=written.private_key,
        ca=written.ca_certificates,
        credential_name=written.credential_name,
        insecure_skip_verify=written.insecure_skip_verify,
    )

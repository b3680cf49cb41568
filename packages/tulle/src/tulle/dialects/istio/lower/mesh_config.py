"""Lowers the mesh's settings, and Sidecars: what the workloads of a namespace may call."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.istio.lower.extension_provider import authorizers
from tulle.dialects.istio.schema import mesh_config as schema
from tulle.dialects.istio.schema import sidecar as sidecar_schema
from tulle.dialects.validate import validate
from tulle.model import log_format
from tulle.model.meta import labels
from tulle.model.routes import Percent
from tulle.model.settings import (
    CallerPolicy,
    LogEncoding,
    OutboundPolicy,
    PathNormalization,
    ReachableHosts,
    SettingsPatch,
    TlsVersion,
)
from tulle.model.source import SourceRef
from tulle.objects import Path, RawObject

ROOT = "istio-system"
"""Where Istio keeps its ConfigMap."""

_OUTBOUND = {"ALLOW_ANY": OutboundPolicy.ALLOW_ANY, "REGISTRY_ONLY": OutboundPolicy.REGISTRY_ONLY}
_PATHS = {
    "DEFAULT": PathNormalization.BASE,
    "NONE": PathNormalization.NONE,
    "BASE": PathNormalization.BASE,
    "MERGE_SLASHES": PathNormalization.MERGE_SLASHES,
    "DECODE_AND_MERGE_SLASHES": PathNormalization.DECODE_AND_MERGE_SLASHES,
}
_VERSIONS = {"TLSV1_2": TlsVersion.V1_2, "TLSV1_3": TlsVersion.V1_3}
_WRITTEN = {
    "access_log_file": "log_path",
    "access_log_format": "log_format",
    "trust_domain": "trust_domain",
    "root_namespace": "root_namespace",
    "enable_auto_mtls": "auto_mtls",
}
"""Fields that mean what they say, and the patch's name for each."""


def config_map(obj: RawObject) -> Lowered:
    """ConfigMap `istio` → SettingsPatch; any other is without meaning here."""
    findings = Findings(obj)
    if obj.name != "istio" or obj.namespace != ROOT:
        message = f"of ConfigMaps only {ROOT}/istio is read, the mesh's settings; this one has no effect"
        findings.warning("no-effect", message, ("metadata", "name" if obj.namespace == ROOT else "namespace"))
        return findings.lowered(())
    parsed = validate(schema.MeshConfigMap, findings)
    if parsed is None:
        return findings.lowered(())
    return findings.lowered((patch(parsed.data.mesh, ("data", "mesh"), findings),))


def istio_operator(obj: RawObject) -> Lowered:
    """IstioOperator → SettingsPatch of its meshConfig."""
    findings = Findings(obj)
    parsed = validate(schema.IstioOperator, findings)
    if parsed is None:
        return findings.lowered(())
    return findings.lowered((patch(parsed.spec.mesh_config, ("spec", "meshConfig"), findings),))


def patch(config: schema.MeshConfig, path: Path, findings: Findings) -> SettingsPatch:
    """What a MeshConfig at `path` says."""
    said: dict[str, object] = {}
    places: dict[str, SourceRef] = {}

    def say(name: str, value: object, *at: str) -> None:
        if value is not None:
            said[name] = tuple(value) if isinstance(value, list) else value
            places[name] = findings.place((*path, *at))

    for field, name in _WRITTEN.items():
        alias = type(config).model_fields[field].alias or field
        say(name, getattr(config, field), alias)
    say("trust_domain_aliases", config.trust_domain_aliases, "trustDomainAliases")
    if config.access_log_encoding is not None:
        say("log_encoding", LogEncoding(config.access_log_encoding.lower()), "accessLogEncoding")
    if config.outbound_traffic_policy is not None:
        mode = _OUTBOUND[config.outbound_traffic_policy.mode]
        say("outbound", mode, "outboundTrafficPolicy", "mode")
    if config.path_normalization is not None:
        level = _PATHS[config.path_normalization.normalization]
        say("path_normalization", level, "pathNormalization", "normalization")
    if config.tls_defaults is not None:
        tls = config.tls_defaults
        say("tls_minimum", _VERSIONS.get(tls.min_protocol_version), "tlsDefaults", "minProtocolVersion")
        say("tls_ciphers", tls.cipher_suites, "tlsDefaults", "cipherSuites")
        say("tls_curves", tls.ecdh_curves, "tlsDefaults", "ecdhCurves")
    if config.mesh_mtls is not None:
        say("mesh_curves", config.mesh_mtls.ecdh_curves, "meshMTLS", "ecdhCurves")
    if config.extension_providers is not None:
        at = (*path, "extensionProviders")
        found = list(authorizers(config.extension_providers, at, findings))
        say("authorizers", found, "extensionProviders")
    tracing = config.default_config.tracing if config.default_config else None
    if config.enable_tracing is False:
        say("sampling", Percent(0), "enableTracing")
    elif tracing is not None and tracing.sampling is not None:
        say("sampling", Percent.of(tracing.sampling), "defaultConfig", "tracing", "sampling")
    _check_log(config, path, findings)
    _check_mesh_tls(config.mesh_mtls, (*path, "meshMTLS"), findings)
    _check_curves(config.tls_defaults, (*path, "tlsDefaults", "ecdhCurves"), findings)
    _check_curves(config.mesh_mtls, (*path, "meshMTLS", "ecdhCurves"), findings)
    return SettingsPatch(meta_of(findings.obj), **said, places=tuple(sorted(places.items())))  # type: ignore[arg-type]


def _check_log(config: schema.MeshConfig, path: Path, findings: Findings) -> None:
    at, text = (*path, "accessLogFormat"), config.access_log_format or ""
    parts = [text]
    if config.access_log_encoding == "JSON" and text:
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            message = "with encoding JSON must be a JSON object of names and format strings"
            findings.error("wrong-value", message, at)
            return
        parts = list(_strings(parsed))
    for problem in (problem for part in parts for problem in log_format.problems(part)):
        if problem.fatal:
            findings.error("wrong-value", problem.message, at, problem.hint)
        else:
            findings.warning("no-effect", problem.message, at)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _check_mesh_tls(tls: schema.Tls | None, path: Path, findings: Findings) -> None:
    if tls is None:
        return
    if tls.min_protocol_version == "TLSV1_2":
        message = "the mesh speaks TLS 1.3 only, whatever is said here"
        findings.warning("no-effect", message, (*path, "minProtocolVersion"))
    if tls.cipher_suites is not None:
        message = "the suites of TLS 1.3 are not chosen one by one; this has no effect"
        findings.warning("no-effect", message, (*path, "cipherSuites"))


def _check_curves(tls: schema.Tls | None, path: Path, findings: Findings) -> None:
    for index, curve in enumerate((tls.ecdh_curves or ()) if tls else ()):
        if curve == "P-521":
            findings.error("unsupported", "tulle-proxy has no P-521", (*path, index), "P-384, or X25519MLKEM768")


def sidecar(obj: RawObject) -> Lowered:
    """Sidecar → CallerPolicy."""
    findings = Findings(obj)
    parsed = validate(sidecar_schema.Sidecar, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    selector = labels(spec.workload_selector.labels) if spec.workload_selector else ()
    reachable = None
    if spec.egress is not None:
        found = [
            host
            for index, listener in enumerate(spec.egress)
            for number, written in enumerate(listener.hosts)
            if (host := _reachable(written, ("spec", "egress", index, "hosts", number), findings)) is not None
        ]
        reachable = tuple(dict.fromkeys(found))
    if selector and obj.namespace == ROOT:
        message = f"a selector in {ROOT} selects workloads of that namespace only"
        findings.warning("root-namespace-selector", message, ("spec", "workloadSelector"))
    mode = _OUTBOUND[spec.outbound_traffic_policy.mode] if spec.outbound_traffic_policy else None
    return findings.lowered((CallerPolicy(meta_of(obj), selector, mode, reachable),))


def _reachable(written: str, path: Path, findings: Findings) -> ReachableHosts | None:
    """`NAMESPACE/HOST`: `.` is the Sidecar's own namespace, `*` any, `~` none."""
    namespace, slash, host = written.partition("/")
    if not slash or not namespace or not host or ("*" in host and host != "*" and not host.startswith("*.")):
        message = f'must be NAMESPACE/HOST such as ./* or istio-system/*, not "{written[:80]}"'
        findings.error("wrong-value", message, path)
        return None
    if namespace == "~":
        return None
    own = findings.obj.namespace
    return ReachableHosts(own if namespace == "." else namespace, host.lower().rstrip("."))

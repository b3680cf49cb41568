"""Transport sockets: mTLS between sidecars with identities from SDS, and TLS that a policy asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.model.policies import ClientTls, TlsMode
from tulle.model.settings import MeshSettings, TlsDefaults, TlsVersion
from tulle.xds import names
from tulle.xds.wire import NO_TIMEOUT, extension

TLS = "envoy.extensions.transport_sockets.tls.v3"
ONLY_TLS_1_3: Mapping[str, str] = {
    "tls_minimum_protocol_version": "TLSv1_3",
    "tls_maximum_protocol_version": "TLSv1_3",
}
SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
"""Where Linux distributions keep the public roots; Envoy has no other name for them."""

_SDS: Mapping[str, Any] = {
    "resource_api_version": "V3",
    "initial_fetch_timeout": NO_TIMEOUT,
    "api_config_source": {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": names.SDS_CLUSTER}}],
    },
}


def plaintext() -> dict[str, Any]:
    """The raw buffer transport socket."""
    return extension(
        "envoy.transport_sockets.raw_buffer", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
    )


def mesh_server(settings: MeshSettings, alpn: Sequence[str]) -> dict[str, Any]:
    """What an inbound filter chain speaks: TLS 1.3, a client certificate of one of the known trust domains."""
    domains = settings.peer_domains
    peers = [{"san_type": "URI", "matcher": {"prefix": f"spiffe://{each}/"}} for each in domains]
    return extension(
        "envoy.transport_sockets.tls",
        f"{TLS}.DownstreamTlsContext",
        common_tls_context=_mesh_context(peers, alpn, settings.mesh_curves),
        require_client_certificate={"value": True},
    )


def mesh_client(sni: str, accounts: Sequence[str], alpn: Sequence[str], curves: Sequence[str] = ()) -> dict[str, Any]:
    """How a sidecar calls another: only the service's own accounts are accepted. `curves` are key exchanges, preferred
    first; none: the data plane's own.

    Without known accounts no peer could be told from another, and none is accepted but the one that cannot
    exist; an empty list would mean that any certificate of the mesh will do.
    """
    wanted = accounts or ("spiffe://no-account-of-this-service-is-known",)
    peers = [{"san_type": "URI", "matcher": {"exact": account}} for account in wanted]
    return extension(
        "envoy.transport_sockets.tls",
        f"{TLS}.UpstreamTlsContext",
        common_tls_context=_mesh_context(peers, alpn, curves),
        sni=sni,
    )


def control_plane_client(server_name: str) -> dict[str, Any]:
    """How a proxy calls its control plane: with its own identity, checking the name of the server."""
    names_wanted = [{"san_type": "DNS", "matcher": {"exact": server_name}}]
    return extension(
        "envoy.transport_sockets.tls",
        f"{TLS}.UpstreamTlsContext",
        common_tls_context=_mesh_context(names_wanted, ("h2",)),
        sni=server_name,
    )


def _mesh_context(peers: list[dict[str, Any]], alpn: Sequence[str], curves: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "tls_params": {**ONLY_TLS_1_3, **({"ecdh_curves": list(curves)} if curves else {})},
        "alpn_protocols": list(alpn),
        "tls_certificate_sds_secret_configs": [{"name": names.OWN_CERTIFICATE, "sds_config": _SDS}],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": peers},
            "validation_context_sds_secret_config": {"name": names.TRUST_BUNDLE, "sds_config": _SDS},
        },
    }


@dataclass(frozen=True, slots=True)
class Server:
    """Whom TLS is spoken with: the host (`*.suffix` where only a request names it), the names that its service
    declares, and the protocols to offer.
    """

    host: str
    alternatives: Sequence[str]
    alpn: Sequence[str]


def originate(policy: ClientTls, server: Server, defaults: TlsDefaults) -> dict[str, Any]:
    """TLS to a server outside the mesh, as a policy says (SIMPLE or MUTUAL).

    The server must have one of the policy's names, else one of those that its service declares, else the name it
    is called by.
    """
    context: dict[str, Any] = {"alpn_protocols": list(server.alpn)}
    params = _parameters(defaults)
    if params:
        context["tls_params"] = params
    if policy.mode is TlsMode.MUTUAL and policy.client_certificate and policy.private_key:
        context["tls_certificates"] = [
            {
                "certificate_chain": {"filename": policy.client_certificate},
                "private_key": {"filename": policy.private_key},
            }
        ]
    by_request = server.host.startswith("*") and policy.sni is None
    if not policy.insecure_skip_verify:
        context["validation_context"] = _server_check(policy, server, () if by_request else (server.host,))
    named: dict[str, Any] = {"sni": policy.sni or server.host}
    if by_request:
        named = {"auto_host_sni": True, "auto_sni_san_validation": not policy.insecure_skip_verify}
    return extension(
        "envoy.transport_sockets.tls", f"{TLS}.UpstreamTlsContext", common_tls_context=context, **named
    )


_VERSIONS = {TlsVersion.V1_2: "TLSv1_2", TlsVersion.V1_3: "TLSv1_3"}


def _parameters(defaults: TlsDefaults) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if defaults.minimum is not None:
        found["tls_minimum_protocol_version"] = _VERSIONS[defaults.minimum]
        found["tls_maximum_protocol_version"] = "TLSv1_3"
    if defaults.ciphers:
        found["cipher_suites"] = list(defaults.ciphers)
    if defaults.curves:
        found["ecdh_curves"] = list(defaults.curves)
    return found


def _server_check(policy: ClientTls, server: Server, own: Sequence[str]) -> dict[str, Any]:
    itself = (policy.sni,) if policy.sni else own
    wanted = policy.subject_alt_names or server.alternatives or itself
    return {
        "trusted_ca": {"filename": policy.ca or SYSTEM_ROOTS},
        "match_typed_subject_alt_names": [
            {
                "san_type": "URI" if name.startswith("spiffe://") else "DNS",
                "matcher": {"exact": name},
            }
            for name in wanted
        ],
    }

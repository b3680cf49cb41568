"""Istio's networking and security APIs: routes, policies, entries, gateways; who may call whom; the mesh's settings."""

from __future__ import annotations

from tulle.dialects.base import Dialect, KindInfo
from tulle.dialects.istio.conditions import conditions
from tulle.dialects.istio.lower.authentication import peer_authentication, request_authentication
from tulle.dialects.istio.lower.authorization_policy import authorization_policy
from tulle.dialects.istio.lower.destination_rule import destination_rule
from tulle.dialects.istio.lower.gateway import gateway
from tulle.dialects.istio.lower.mesh_config import config_map, istio_operator, sidecar
from tulle.dialects.istio.lower.service_entry import service_entry, workload_entry
from tulle.dialects.istio.lower.virtual_service import virtual_service

_GROUP = "networking.istio.io"
_VERSIONS = ("v1", "v1beta1", "v1alpha3")
_SECURITY = "security.istio.io"
_SECURITY_VERSIONS = ("v1", "v1beta1")

DIALECT = Dialect(
    "istio",
    (
        KindInfo(_GROUP, "VirtualService", _VERSIONS, "virtualservices", virtual_service, ("vs",)),
        KindInfo(_GROUP, "DestinationRule", _VERSIONS, "destinationrules", destination_rule, ("dr",)),
        KindInfo(_GROUP, "ServiceEntry", _VERSIONS, "serviceentries", service_entry, ("se",)),
        KindInfo(_GROUP, "WorkloadEntry", _VERSIONS, "workloadentries", workload_entry, ("we",)),
        KindInfo(_GROUP, "Gateway", _VERSIONS, "gateways", gateway, ("gw",)),
        KindInfo(_GROUP, "Sidecar", _VERSIONS, "sidecars", sidecar),
        KindInfo("", "ConfigMap", ("v1",), "configmaps", config_map, ("cm",)),
        KindInfo(
            "install.istio.io",
            "IstioOperator",
            ("v1alpha1",),
            "istiooperators",
            istio_operator,
            ("iop",),
            namespaced=False,
        ),
        KindInfo(
            _SECURITY,
            "AuthorizationPolicy",
            _SECURITY_VERSIONS,
            "authorizationpolicies",
            authorization_policy,
            ("ap",),
        ),
        KindInfo(
            _SECURITY,
            "PeerAuthentication",
            _SECURITY_VERSIONS,
            "peerauthentications",
            peer_authentication,
            ("pa",),
        ),
        KindInfo(
            _SECURITY,
            "RequestAuthentication",
            _SECURITY_VERSIONS,
            "requestauthentications",
            request_authentication,
            ("ra",),
        ),
    ),
    conditions,
)

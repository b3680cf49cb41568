"""Linkerd's policy: Servers that are closed until something is granted, who callers are, and what they ask for."""

from __future__ import annotations

from tulle.dialects.base import Dialect, KindInfo
from tulle.dialects.linkerd.conditions import conditions
from tulle.dialects.linkerd.lower import (
    authorization_policy,
    http_route,
    mesh_tls_authentication,
    network_authentication,
    server,
    server_authorization,
)

_GROUP = "policy.linkerd.io"

DIALECT = Dialect(
    "linkerd",
    (
        KindInfo(_GROUP, "Server", ("v1beta3", "v1beta2", "v1beta1", "v1alpha1"), "servers", server, ("srv",)),
        KindInfo(
            _GROUP,
            "ServerAuthorization",
            ("v1beta1", "v1alpha1"),
            "serverauthorizations",
            server_authorization,
            ("saz",),
        ),
        KindInfo(_GROUP, "AuthorizationPolicy", ("v1alpha1",), "authorizationpolicies", authorization_policy),
        KindInfo(
            _GROUP,
            "MeshTLSAuthentication",
            ("v1alpha1",),
            "meshtlsauthentications",
            mesh_tls_authentication,
            ("meshtlsauthn",),
        ),
        KindInfo(
            _GROUP,
            "NetworkAuthentication",
            ("v1alpha1",),
            "networkauthentications",
            network_authentication,
            ("netauthn",),
        ),
        KindInfo(
            _GROUP, "HTTPRoute", ("v1beta3", "v1beta2", "v1beta1", "v1alpha1"), "httproutes", http_route
        ),
    ),
    conditions,
)

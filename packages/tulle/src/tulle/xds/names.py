"""Every resource name that Tulle gives, built here and never parsed back."""

from __future__ import annotations

OUTBOUND_LISTENER = "outbound"
OUTBOUND_ROUTES = "outbound"
BLOCK_ALL = "block_all"
ALLOW_ANY = "allow_any"
PASSTHROUGH_CLUSTER = "PassthroughCluster"
EGRESS_GUARD = "tulle.egress"
FORBIDDEN_ADDRESS = "forbidden-address"
OWN_CERTIFICATE = "default"
TRUST_BUNDLE = "ROOTCA"
SDS_CLUSTER = "sds-grpc"
XDS_CLUSTER = "xds-grpc"
ZIPKIN_CLUSTER = "zipkin"
TRANSPORT_MATCH = "envoy.transport_socket_match"


def outbound_cluster(host: str, port: int, subset: str = "") -> str:
    """The cluster (and its endpoints) of a service port, or of a subset of it."""
    return f"outbound|{port}|{subset}|{host}"


def outbound_sni(host: str, port: int, subset: str = "") -> str:
    """The server name that a sidecar sends for a cluster: Istio's form."""
    return f"outbound_.{port}_.{subset}_.{host}"


def inbound_cluster(app_port: int) -> str:
    """The cluster of the application's own port."""
    return f"inbound|{app_port}||"


def inbound_listener(app_port: int) -> str:
    """The listener, and its inline routes, for one application port."""
    return f"inbound|{app_port}"


def inbound_virtual_host(app_port: int) -> str:
    return f"inbound|http|{app_port}"


def upstream_listener(local_port: int) -> str:
    """The listener of one local upstream port."""
    return f"upstream|{local_port}"


def upstream_routes(host: str, port: int) -> str:
    """The routes behind the upstream listeners for a service port."""
    return f"upstream|{port}|{host}"


def virtual_host(host: str, port: int | None) -> str:
    """The virtual host of a service port, or of a host that is only routed."""
    return host if port is None else f"{host}:{port}"


def grpc_routes(host: str, port: int) -> str:
    """The routes behind a proxyless client's listener for a service port."""
    return f"grpc|{port}|{host}"


def access_rule(kind: str, namespace: str, policy: str, rule: int) -> str:
    """The name of a rule in RBAC filters, which a denial reports: Istio's form for its own kind."""
    return f"{access_rules(kind, namespace, policy)}{rule}]"


def access_rules(kind: str, namespace: str, policy: str) -> str:
    """What the names of all rules of one policy begin with."""
    what = "policy" if kind == "AuthorizationPolicy" else kind
    return f"ns[{namespace}]-{what}[{policy}]-rule["


def dry_run_prefix(action: str) -> str:
    """What the statistics and the metadata of one action's dry runs begin with, as in Istio."""
    return f"istio_dry_run_{action}_"


ACCESS_CHECKS = "tulle.access.checks"
"""The filter that takes others from the route table: of tokens, and of authorizers."""


def access_slot(action: str) -> str:
    """The RBAC filter of one action that takes its rules from the route table."""
    return f"tulle.access.{action}"


def unchecked_tokens(namespace: str, policy: str) -> str:
    """The rule that refuses everything where tokens should be checked and cannot be."""
    return f"ns[{namespace}]-RequestAuthentication[{policy}]-tokens-not-checked"


def missing_authorizer(namespace: str, policy: str) -> str:
    """The rule that refuses everything where an authorizer should be asked and none is declared."""
    return f"ns[{namespace}]-policy[{policy}]-no-such-provider"


def revoked_peer(namespace: str, workload: str) -> str:
    """The rule that refuses a revoked workload."""
    return f"ns[{namespace}]-workload[{workload}]-revoked"


def authorizer_metadata(index: int) -> str:
    """Begins the metadata keys that say whether an authorizer is to be asked: Istio's form, numbered."""
    return f"istio_ext_authz_{index}_"


def token_provider(index: int) -> str:
    """One issuer of the token filter: Istio's form."""
    return f"origins-{index}"

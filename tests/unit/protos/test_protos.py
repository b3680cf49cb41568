"""The private pool: messages resolve, packing is deterministic, the committed descriptors are the wheel's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pool import Default
from google.protobuf.json_format import ParseError

from tulle.protos import (
    UnknownMessageError,
    from_dict,
    message,
    pack_any,
    pool,
    serialize,
    to_dict,
    unpack_any,
)

TOOLS = Path(__file__).resolve().parents[3] / "packages" / "tulle" / "tools"

NEEDED = [
    "envoy.config.bootstrap.v3.Bootstrap",
    "envoy.service.discovery.v3.DeltaDiscoveryResponse",
    "envoy.service.discovery.v3.DiscoveryRequest",
    "envoy.service.status.v3.ClientConfig",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.extensions.transport_sockets.tls.v3.Secret",
    "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    "xds.type.v3.TypedStruct",
    "google.rpc.Status",
    "istio.v1.auth.IstioCertificateRequest",
] + [
    f"envoy.extensions.filters.http.{name}"
    for name in (
        "router.v3.Router", "rbac.v3.RBAC", "jwt_authn.v3.JwtAuthentication", "ext_authz.v3.ExtAuthz",
        "ratelimit.v3.RateLimit", "local_ratelimit.v3.LocalRateLimit", "fault.v3.HTTPFault", "cors.v3.Cors",
        "health_check.v3.HealthCheck", "grpc_stats.v3.FilterConfig",
    )
]  # fmt: skip


@pytest.mark.parametrize("full_name", NEEDED)
def test_message_resolves(full_name: str) -> None:
    assert message(full_name).DESCRIPTOR.full_name == full_name


def test_every_file_links() -> None:
    assert pool().FindFileByName("envoy/config/cluster/v3/cluster.proto")


def test_unknown_message_is_named() -> None:
    with pytest.raises(UnknownMessageError, match=r"envoy\.Nothing"):
        message("envoy.Nothing")


def test_the_default_pool_stays_clean() -> None:
    message("envoy.config.cluster.v3.Cluster")
    with pytest.raises(KeyError):
        Default().FindFileByName("envoy/config/cluster/v3/cluster.proto")


HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(keys: list[str]) -> dict[str, object]:
    """A cluster whose maps, also one inside an Any, have `keys` in the given order."""
    value = {key: {"x": key} for key in keys}
    struct = {"@type": "type.googleapis.com/google.protobuf.Struct", "value": value}
    return {"name": "a", "typed_extension_protocol_options": dict.fromkeys(keys, struct)}


def test_map_order_does_not_change_bytes_even_inside_any() -> None:
    keys = [f"k{i}" for i in range(20)]
    one, other = cluster(keys), cluster(keys[::-1])
    full_name = "envoy.config.cluster.v3.Cluster"
    assert serialize(from_dict(full_name, one)) == serialize(from_dict(full_name, other))
    assert to_dict(from_dict(full_name, one)) == to_dict(from_dict(full_name, other))


def test_pack_and_unpack() -> None:
    options = from_dict(HTTP_OPTIONS, {"explicit_http_config": {"http2_protocol_options": {}}})
    packed = pack_any(options)
    assert packed.type_url == f"type.googleapis.com/{HTTP_OPTIONS}"
    assert unpack_any(packed) == options


def test_unknown_field_names_its_path() -> None:
    with pytest.raises(ParseError, match="wieght"):
        from_dict("envoy.config.route.v3.RouteConfiguration", {"virtual_hosts": [{"wieght": 1}]})


def test_importing_reads_no_descriptors() -> None:
    program = "import tulle.protos, sys; sys.exit('google.protobuf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_committed_descriptors_are_those_of_the_pinned_wheel() -> None:
    command = [sys.executable, str(TOOLS / "build_protos.py"), "--check"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if "CalledProcessError" in made.stderr:
        pytest.skip("the pinned xds-protos wheel cannot be downloaded here")
    assert made.returncode == 0, made.stderr

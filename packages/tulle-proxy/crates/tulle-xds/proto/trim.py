"""Writes config.bin: descriptors of the Envoy messages that tulle-proxy reads, trimmed from the envoy-types crate.

Run it again (`python trim.py`, needs the `protobuf` package and `cargo`) whenever the envoy-types version moves: the
file must describe exactly the generated types. Comments and options that decoding does not need are left out.
"""

from __future__ import annotations

import json
import pathlib
import subprocess

from google.protobuf import descriptor_pb2

EXT = "envoy/extensions"
ROOTS = [
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/config/trace/v3/opentelemetry.proto",
    "envoy/config/trace/v3/zipkin.proto",
    "envoy/service/discovery/v3/discovery.proto",
    f"{EXT}/access_loggers/file/v3/file.proto",
    f"{EXT}/access_loggers/stream/v3/stream.proto",
    f"{EXT}/clusters/aggregate/v3/cluster.proto",
    f"{EXT}/clusters/composite/v3/cluster.proto",
    f"{EXT}/clusters/dns/v3/dns_cluster.proto",
    f"{EXT}/formatter/cel/v3/cel.proto",
    f"{EXT}/clusters/original_dst/v3/original_dst.proto",
    f"{EXT}/filters/http/adaptive_concurrency/v3/adaptive_concurrency.proto",
    f"{EXT}/filters/http/admission_control/v3/admission_control.proto",
    f"{EXT}/filters/http/bandwidth_limit/v3/bandwidth_limit.proto",
    f"{EXT}/filters/http/buffer/v3/buffer.proto",
    f"{EXT}/clusters/dynamic_forward_proxy/v3/cluster.proto",
    f"{EXT}/filters/http/cors/v3/cors.proto",
    f"{EXT}/filters/http/csrf/v3/csrf.proto",
    f"{EXT}/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy.proto",
    f"{EXT}/filters/http/ext_authz/v3/ext_authz.proto",
    f"{EXT}/filters/http/fault/v3/fault.proto",
    f"{EXT}/filters/http/grpc_stats/v3/config.proto",
    f"{EXT}/filters/http/header_mutation/v3/header_mutation.proto",
    f"{EXT}/filters/http/header_to_metadata/v3/header_to_metadata.proto",
    f"{EXT}/filters/http/health_check/v3/health_check.proto",
    f"{EXT}/filters/http/jwt_authn/v3/config.proto",
    f"{EXT}/filters/http/local_ratelimit/v3/local_rate_limit.proto",
    f"{EXT}/filters/http/on_demand/v3/on_demand.proto",
    f"{EXT}/filters/http/ratelimit/v3/rate_limit.proto",
    f"{EXT}/filters/http/rbac/v3/rbac.proto",
    f"{EXT}/filters/http/router/v3/router.proto",
    f"{EXT}/filters/http/set_metadata/v3/set_metadata.proto",
    f"{EXT}/filters/http/stateful_session/v3/stateful_session.proto",
    f"{EXT}/filters/listener/http_inspector/v3/http_inspector.proto",
    f"{EXT}/filters/listener/original_dst/v3/original_dst.proto",
    f"{EXT}/filters/listener/proxy_protocol/v3/proxy_protocol.proto",
    f"{EXT}/filters/listener/tls_inspector/v3/tls_inspector.proto",
    f"{EXT}/filters/network/connection_limit/v3/connection_limit.proto",
    f"{EXT}/filters/network/ext_authz/v3/ext_authz.proto",
    f"{EXT}/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    f"{EXT}/filters/network/rbac/v3/rbac.proto",
    f"{EXT}/filters/network/sni_dynamic_forward_proxy/v3/sni_dynamic_forward_proxy.proto",
    f"{EXT}/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    f"{EXT}/http/header_formatters/preserve_case/v3/preserve_case.proto",
    f"{EXT}/http/stateful_session/cookie/v3/cookie.proto",
    f"{EXT}/http/stateful_session/header/v3/header.proto",
    f"{EXT}/internal_redirect/allow_listed_routes/v3/allow_listed_routes_config.proto",
    f"{EXT}/internal_redirect/previous_routes/v3/previous_routes_config.proto",
    f"{EXT}/internal_redirect/safe_cross_scheme/v3/safe_cross_scheme_config.proto",
    f"{EXT}/load_balancing_policies/client_side_weighted_round_robin/v3/client_side_weighted_round_robin.proto",
    f"{EXT}/load_balancing_policies/cluster_provided/v3/cluster_provided.proto",
    f"{EXT}/filters/network/sni_cluster/v3/sni_cluster.proto",
    f"{EXT}/formatter/metadata/v3/metadata.proto",
    f"{EXT}/formatter/req_without_query/v3/req_without_query.proto",
    f"{EXT}/http/early_header_mutation/header_mutation/v3/header_mutation.proto",
    f"{EXT}/http/original_ip_detection/custom_header/v3/custom_header.proto",
    f"{EXT}/http/original_ip_detection/xff/v3/xff.proto",
    f"{EXT}/load_balancing_policies/least_request/v3/least_request.proto",
    f"{EXT}/load_balancing_policies/maglev/v3/maglev.proto",
    f"{EXT}/load_balancing_policies/override_host/v3/override_host.proto",
    f"{EXT}/load_balancing_policies/random/v3/random.proto",
    f"{EXT}/load_balancing_policies/ring_hash/v3/ring_hash.proto",
    f"{EXT}/load_balancing_policies/round_robin/v3/round_robin.proto",
    f"{EXT}/load_balancing_policies/subset/v3/subset.proto",
    f"{EXT}/load_balancing_policies/wrr_locality/v3/wrr_locality.proto",
    f"{EXT}/network/dns_resolver/cares/v3/cares_dns_resolver.proto",
    f"{EXT}/network/dns_resolver/getaddrinfo/v3/getaddrinfo_dns_resolver.proto",
    f"{EXT}/path/match/uri_template/v3/uri_template_match.proto",
    f"{EXT}/path/rewrite/uri_template/v3/uri_template_rewrite.proto",
    f"{EXT}/request_id/uuid/v3/uuid.proto",
    f"{EXT}/resource_monitors/cgroup_memory/v3/cgroup_memory.proto",
    f"{EXT}/resource_monitors/downstream_connections/v3/downstream_connections.proto",
    f"{EXT}/resource_monitors/fixed_heap/v3/fixed_heap.proto",
    f"{EXT}/retry/host/omit_canary_hosts/v3/omit_canary_hosts.proto",
    f"{EXT}/retry/host/omit_host_metadata/v3/omit_host_metadata_config.proto",
    f"{EXT}/retry/host/previous_hosts/v3/previous_hosts.proto",
    f"{EXT}/retry/priority/previous_priorities/v3/previous_priorities_config.proto",
    f"{EXT}/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.proto",
    f"{EXT}/transport_sockets/raw_buffer/v3/raw_buffer.proto",
    f"{EXT}/transport_sockets/tls/v3/secret.proto",
    f"{EXT}/transport_sockets/tls/v3/tls.proto",
    f"{EXT}/upstreams/http/v3/http_protocol_options.proto",
    # Where it is missing, prost-reflect makes a pool of its own for it, which lives as long as the program: 0.8 MB.
    "google/protobuf/descriptor.proto",
]


def envoy_types_descriptors(crate: pathlib.Path) -> bytes:
    command = ["cargo", "metadata", "--format-version", "1", "--manifest-path", str(crate / "Cargo.toml")]
    packages = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packages"]
    (manifest,) = [package["manifest_path"] for package in packages if package["name"] == "envoy-types"]
    return (pathlib.Path(manifest).parent / "src/generated/types.bin").read_bytes()


def strip(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        field.ClearField("options")
    for oneof in message.oneof_decl:
        oneof.ClearField("options")
    for enum in message.enum_type:
        strip_enum(enum)
    for nested in message.nested_type:
        strip(nested)
    is_map_entry = message.options.map_entry
    message.ClearField("options")
    if is_map_entry:
        message.options.map_entry = True


def strip_enum(enum: descriptor_pb2.EnumDescriptorProto) -> None:
    enum.ClearField("options")
    for value in enum.value:
        value.ClearField("options")


def needed(files: dict[str, descriptor_pb2.FileDescriptorProto]) -> set[str]:
    found: set[str] = set()
    pending = list(ROOTS)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending.extend(dependency for dependency in files[name].dependency if not annotations_only(dependency))
    return found


def annotations_only(name: str) -> bool:
    return "annotations/" in name or name in ("validate/validate.proto", "google/protobuf/descriptor.proto")


def main() -> None:
    crate = pathlib.Path(__file__).resolve().parent.parent
    whole = descriptor_pb2.FileDescriptorSet.FromString(envoy_types_descriptors(crate))
    keep = needed({file.name: file for file in whole.file})
    trimmed = descriptor_pb2.FileDescriptorSet()
    for file in whole.file:
        if file.name not in keep:
            continue
        file.ClearField("source_code_info")
        file.ClearField("options")
        kept = [dependency for dependency in file.dependency if not annotations_only(dependency)]
        del file.dependency[:]
        file.dependency.extend(kept)
        del file.public_dependency[:]
        del file.service[:]
        for message in file.message_type:
            strip(message)
        for enum in file.enum_type:
            strip_enum(enum)
        trimmed.file.append(file)
    (crate / "proto/config.bin").write_bytes(trimmed.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()

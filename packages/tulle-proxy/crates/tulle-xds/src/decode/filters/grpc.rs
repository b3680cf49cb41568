//! A gRPC service that a filter asks (`envoy.config.core.v3.GrpcService`), reached by a cluster.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use tulle_config::GrpcService;
use tulle_core::Str;

use super::super::cx::{Cx, refuse};

/// `timeout` is what holds when the message has none.
pub fn service(cx: &mut Cx, message: core_pb::GrpcService, timeout: Duration) -> Option<GrpcService> {
    use core_pb::grpc_service::TargetSpecifier;
    let core_pb::GrpcService { timeout: own, initial_metadata, retry_policy, target_specifier } = message;
    refuse!(cx; retry_policy);
    let Some(TargetSpecifier::EnvoyGrpc(target)) = target_specifier else {
        cx.error_at("target_specifier", "must be envoy_grpc");
        return None;
    };
    let core_pb::grpc_service::EnvoyGrpc {
        cluster_name,
        authority,
        retry_policy,
        max_receive_message_length,
        skip_envoy_headers: _,
    } = target;
    cx.field("envoy_grpc", |cx| {
        refuse!(cx; retry_policy, max_receive_message_length);
    });
    let cluster = cx.name("envoy_grpc.cluster_name", &cluster_name)?;
    let metadata = cx.each("initial_metadata", initial_metadata, header_value);
    Some(GrpcService {
        authority: if authority.is_empty() { cluster.clone() } else { cx.intern(&authority) },
        cluster,
        timeout: Some(cx.duration("timeout", own).unwrap_or(timeout)),
        metadata: metadata.into(),
    })
}

/// Who may be asked speaks version 3 of Envoy's protocols only, which is also what Envoy chooses where none is said.
pub fn version(cx: &mut Cx, version: i32) {
    use core_pb::ApiVersion;
    match cx.enumeration::<ApiVersion>("transport_api_version", version) {
        Some(ApiVersion::Auto | ApiVersion::V3) | None => {}
        Some(ApiVersion::V2) => cx.error_at("transport_api_version", "must be V3"),
    }
}

pub fn header_value(cx: &mut Cx, message: core_pb::HeaderValue) -> Option<(Str, Str)> {
    let core_pb::HeaderValue { key, value, raw_value } = message;
    refuse!(cx; raw_value);
    Some((cx.name("key", &key.to_ascii_lowercase())?, cx.intern(&value)))
}

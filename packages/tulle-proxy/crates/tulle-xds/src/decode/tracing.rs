//! Tracing settings of the HTTP connection manager.

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::trace::v3 as trace_pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as inner_pb;
use prost::Name as _;
use tulle_config::hcm::{TraceProvider, Tracing};

use super::common::{optional, percent, truth, uint};
use super::cx::{Cx, refuse, type_name, without_effect};

pub fn tracing(cx: &mut Cx, message: inner_pb::Tracing) -> Option<Tracing> {
    let inner_pb::Tracing {
        client_sampling,
        random_sampling,
        overall_sampling,
        verbose,
        max_path_tag_length,
        custom_tags,
        provider,
        spawn_upstream_span,
        operation,
        upstream_operation,
        no_context_propagation,
    } = message;
    refuse!(cx; no_context_propagation);
    without_effect!(cx; custom_tags, operation, upstream_operation);
    Some(Tracing {
        client_sampling: percent(cx, "client_sampling", client_sampling, 100.0),
        random_sampling: percent(cx, "random_sampling", random_sampling, 100.0),
        overall_sampling: percent(cx, "overall_sampling", overall_sampling, 100.0),
        verbose,
        max_path_tag_length: uint(max_path_tag_length).unwrap_or(256),
        provider: match provider {
            Some(provider) => Some(cx.field("provider", |cx| trace_provider(cx, provider))?),
            None => None,
        },
        spawn_upstream_span: truth(spawn_upstream_span, false),
    })
}

fn trace_provider(cx: &mut Cx, message: trace_pb::tracing::Http) -> Option<TraceProvider> {
    use trace_pb::tracing::http::ConfigType;
    let trace_pb::tracing::Http { name, config_type } = message;
    let Some(ConfigType::TypedConfig(any)) = config_type else {
        cx.error_at("typed_config", format!("is required for {name:?}"));
        return None;
    };
    let typed = type_name(&any.type_url);
    cx.field("typed_config", |cx| {
        if typed == trace_pb::ZipkinConfig::full_name() {
            let message = cx.unpack::<trace_pb::ZipkinConfig>(&any)?;
            zipkin(cx, message)
        } else if typed == trace_pb::OpenTelemetryConfig::full_name() {
            let message = cx.unpack::<trace_pb::OpenTelemetryConfig>(&any)?;
            open_telemetry(cx, message)
        } else {
            cx.error(format!("the tracer {typed} is not supported: it can be Zipkin or OpenTelemetry"));
            None
        }
    })
}

fn zipkin(cx: &mut Cx, message: trace_pb::ZipkinConfig) -> Option<TraceProvider> {
    use trace_pb::zipkin_config::CollectorEndpointVersion as Version;
    let trace_pb::ZipkinConfig {
        collector_cluster,
        collector_endpoint,
        trace_id_128bit,
        shared_span_context,
        collector_endpoint_version,
        collector_hostname,
        split_spans_for_request,
        trace_context_option,
        collector_service,
        timestamp_trace_ids,
    } = message;
    refuse!(cx; collector_service);
    without_effect!(cx; split_spans_for_request, trace_context_option, timestamp_trace_ids);
    if cx.enumeration::<Version>("collector_endpoint_version", collector_endpoint_version)? != Version::HttpJson {
        cx.error_at("collector_endpoint_version", "must be HTTP_JSON");
    }
    Some(TraceProvider::Zipkin {
        cluster: cx.name("collector_cluster", &collector_cluster)?,
        path: cx.name("collector_endpoint", &collector_endpoint)?,
        hostname: optional(cx, &collector_hostname),
        trace_id_128bit,
        shared_span_context: truth(shared_span_context, true),
    })
}

fn open_telemetry(cx: &mut Cx, message: trace_pb::OpenTelemetryConfig) -> Option<TraceProvider> {
    use core_pb::grpc_service::TargetSpecifier;
    let trace_pb::OpenTelemetryConfig {
        grpc_service,
        http_service,
        exporter,
        service_name,
        resource_detectors,
        sampler,
        max_cache_size,
        set_telemetry_sdk_resource_attributes,
        set_service_name_resource_attribute,
        set_instrumentation_scope,
    } = message;
    refuse!(cx; http_service, exporter, sampler);
    without_effect!(cx; resource_detectors, max_cache_size, set_telemetry_sdk_resource_attributes,
        set_service_name_resource_attribute, set_instrumentation_scope);
    let service = cx.required("grpc_service", grpc_service)?;
    let Some(TargetSpecifier::EnvoyGrpc(target)) = service.target_specifier else {
        cx.error_at("grpc_service.envoy_grpc", "is required");
        return None;
    };
    Some(TraceProvider::OpenTelemetry {
        cluster: cx.name("grpc_service.envoy_grpc.cluster_name", &target.cluster_name)?,
        service_name: cx.intern(&service_name),
    })
}

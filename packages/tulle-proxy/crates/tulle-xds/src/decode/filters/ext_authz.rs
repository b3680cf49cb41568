//! External authorization: who is asked over HTTP or gRPC, and what counts of the answer.

use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as authz_pb;
use envoy_types::pb::envoy::extensions::filters::network::ext_authz::v3 as network_pb;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher_pb;
use tulle_config::authorizer::{AuthorizerService, ConnectionAuthorizer, HttpAuthorizer, OnFailure};
use tulle_config::{Authorizer, Runtime};
use tulle_core::{FractionalPercent, Str};
use tulle_policy::authorizer::{AuthorizerOverride, BodyShown};
use tulle_policy::{FilterOverride, StringMatcher};

use super::super::common::{runtime_fraction, truth};
use super::super::cx::{Cx, refuse, without_effect};
use super::super::matchers::{metadata_matcher, string_matcher};
use super::grpc::{self, header_value, version};
use super::uri::server;

/// Envoy's default.
const TIMEOUT: Duration = Duration::from_millis(200);

pub fn authorizer(cx: &mut Cx, message: authz_pb::ExtAuthz) -> Option<Authorizer> {
    let message = supported(cx, message);
    if matches!(message.services, Some(authz_pb::ext_authz::Services::GrpcService(_))) {
        version(cx, message.transport_api_version);
    }
    let status = match message.status_on_error {
        Some(status) => cx.field("status_on_error", |cx| status_of(cx, status.code))?,
        None => 403,
    };
    let body = match message.with_request_body {
        Some(settings) => Some(cx.field("with_request_body", |cx| body_shown(cx, settings))?),
        None => None,
    };
    let enabled = match message.filter_enabled {
        Some(fraction) => cx.field("filter_enabled", |cx| runtime_fraction(cx, fraction))?,
        None => FractionalPercent::ALWAYS,
    };
    let enabled_by = match message.filter_enabled_metadata {
        Some(matcher) => Some(cx.field("filter_enabled_metadata", |cx| metadata_matcher(cx, matcher))?),
        None => None,
    };
    let deny_at_disable = message.deny_at_disable.is_some_and(|flag| {
        let overridden = cx.runtime(&flag.runtime_key, Runtime::truth);
        overridden.unwrap_or_else(|| truth(flag.default_value, false))
    });
    let denied_body = message.max_denied_response_body_bytes as usize;
    let allowed = matchers(cx, "allowed_headers", message.allowed_headers);
    let disallowed = matchers(cx, "disallowed_headers", message.disallowed_headers);
    let services = cx.required("services", message.services);
    let (service, allowed_by_service) = services.and_then(|services| asked(cx, services))?;
    Some(Authorizer {
        allowed_headers: allowed.or(allowed_by_service),
        service,
        failure: match (message.failure_mode_allow, message.failure_mode_allow_header_add) {
            (false, _) => OnFailure::Deny(status),
            (true, false) => OnFailure::Allow,
            (true, true) => OnFailure::AllowAndTell,
        },
        body,
        clear_route_cache: message.clear_route_cache,
        enabled,
        enabled_by,
        status_when_disabled: deny_at_disable.then_some(status),
        metadata: message.metadata_context_namespaces.iter().map(|name| cx.intern(name)).collect(),
        disallowed_headers: disallowed.unwrap_or_default(),
        max_denied_body: (denied_body > 0).then_some(denied_body),
        tls_session: message.include_tls_session,
    })
}

/// The network filter, which asks about a connection.
pub fn connection_authorizer(cx: &mut Cx, message: network_pb::ExtAuthz) -> Option<ConnectionAuthorizer> {
    let network_pb::ExtAuthz {
        stat_prefix,
        grpc_service,
        failure_mode_allow,
        include_peer_certificate,
        transport_api_version,
        filter_enabled_metadata,
        bootstrap_metadata_labels_key,
        include_tls_session,
        send_tls_alert_on_denial,
        metadata_context_namespaces,
        typed_metadata_context_namespaces,
        shadow_mode,
    } = message;
    refuse!(cx; include_peer_certificate, bootstrap_metadata_labels_key, send_tls_alert_on_denial,
        metadata_context_namespaces, typed_metadata_context_namespaces, shadow_mode);
    cx.name("stat_prefix", &stat_prefix)?;
    version(cx, transport_api_version);
    let enabled_by = match filter_enabled_metadata {
        Some(matcher) => Some(cx.field("filter_enabled_metadata", |cx| metadata_matcher(cx, matcher))?),
        None => None,
    };
    let service = cx.required("grpc_service", grpc_service)?;
    Some(ConnectionAuthorizer {
        service: cx.field("grpc_service", |cx| grpc::service(cx, service, TIMEOUT))?,
        fail_open: failure_mode_allow,
        enabled_by,
        tls_session: include_tls_session,
    })
}

/// Names every field; those that are not supported are refused.
fn supported(cx: &mut Cx, message: authz_pb::ExtAuthz) -> authz_pb::ExtAuthz {
    #[rustfmt::skip]
    let authz_pb::ExtAuthz {
        transport_api_version: _, failure_mode_allow: _, failure_mode_allow_header_add: _, with_request_body: _,
        clear_route_cache: _, status_on_error: _, metadata_context_namespaces: _, filter_enabled: _,
        filter_enabled_metadata: _, deny_at_disable: _, allowed_headers: _, disallowed_headers: _,
        include_tls_session: _, max_denied_response_body_bytes: _, services: _,
        // What an authorizer sends is always checked: an invalid field counts as no answer.
        validate_mutations: _, enforce_response_header_limits: _,
        // Reported below.
        typed_metadata_context_namespaces, route_metadata_context_namespaces, route_typed_metadata_context_namespaces,
        stat_prefix, bootstrap_metadata_labels_key, charge_cluster_response_stats, encode_raw_headers,
        decoder_header_mutation_rules, enable_dynamic_metadata_ingestion, filter_metadata, emit_filter_state_stats,
        shadow_mode, emit_client_span, include_peer_certificate,
    } = &message;
    refuse!(cx; typed_metadata_context_namespaces, route_metadata_context_namespaces,
        route_typed_metadata_context_namespaces, encode_raw_headers, decoder_header_mutation_rules,
        shadow_mode, include_peer_certificate, bootstrap_metadata_labels_key);
    without_effect!(cx; stat_prefix, charge_cluster_response_stats, filter_metadata, emit_filter_state_stats,
        emit_client_span);
    if enable_dynamic_metadata_ingestion.as_ref().is_some_and(|wrapped| !wrapped.value) {
        cx.refuse("enable_dynamic_metadata_ingestion");
    }
    message
}

pub fn per_route(cx: &mut Cx, message: authz_pb::ExtAuthzPerRoute) -> Option<FilterOverride> {
    use authz_pb::ext_authz_per_route::Override;
    let authz_pb::ExtAuthzPerRoute { r#override } = message;
    match cx.required("override", r#override)? {
        Override::Disabled(true) => Some(FilterOverride::Off),
        Override::Disabled(false) => {
            cx.error_at("disabled", "must be true");
            None
        }
        Override::CheckSettings(settings) => cx.field("check_settings", |cx| {
            let authz_pb::CheckSettings {
                context_extensions,
                disable_request_body_buffering,
                with_request_body,
                emit_client_span,
                service_override,
            } = settings;
            without_effect!(cx; emit_client_span);
            if service_override.is_some() {
                cx.refuse("service_override");
            }
            let body = match with_request_body {
                Some(settings) => Some(Some(cx.field("with_request_body", |cx| body_shown(cx, settings))?)),
                None => disable_request_body_buffering.then_some(None),
            };
            let mut context: Vec<(Str, Str)> =
                context_extensions.iter().map(|(key, value)| (cx.intern(key), cx.intern(value))).collect();
            context.sort();
            Some(FilterOverride::Authorizer(AuthorizerOverride { context: context.into(), body }.into()))
        }),
    }
}

fn status_of(cx: &mut Cx, code: i32) -> Option<u16> {
    let status = u16::try_from(code).ok().filter(|status| (200..600).contains(status));
    if status.is_none() {
        cx.error_at("code", format!("{code} is not a status from 200 to 599"));
    }
    status
}

fn body_shown(cx: &mut Cx, message: authz_pb::BufferSettings) -> Option<BodyShown> {
    let authz_pb::BufferSettings { max_request_bytes, allow_partial_message, pack_as_bytes } = message;
    if max_request_bytes == 0 {
        cx.error_at("max_request_bytes", "must be greater than 0");
        return None;
    }
    Some(BodyShown { max_bytes: max_request_bytes as usize, partial: allow_partial_message, as_bytes: pack_as_bytes })
}

type Matchers = Box<[StringMatcher]>;

fn matchers(cx: &mut Cx, name: &str, message: Option<matcher_pb::ListStringMatcher>) -> Option<Matchers> {
    let matcher_pb::ListStringMatcher { patterns } = message?;
    Some(cx.field(name, |cx| cx.each("patterns", patterns, string_matcher)).into())
}

/// Who is asked and how, and which fields may be shown to it.
type Asked = (AuthorizerService, Option<Matchers>);

fn asked(cx: &mut Cx, services: authz_pb::ext_authz::Services) -> Option<Asked> {
    use authz_pb::ext_authz::Services;
    match services {
        Services::HttpService(service) => cx.field("http_service", |cx| http(cx, service)),
        Services::GrpcService(service) => cx.field("grpc_service", |cx| {
            let service = grpc::service(cx, service, TIMEOUT)?;
            Some((AuthorizerService::Grpc(service), None))
        }),
    }
}

fn http(cx: &mut Cx, message: authz_pb::HttpService) -> Option<Asked> {
    let authz_pb::HttpService {
        server_uri,
        path_prefix,
        path_override,
        authorization_request,
        authorization_response,
        retry_policy,
    } = message;
    refuse!(cx; path_override, retry_policy);
    if !path_prefix.is_empty() && !path_prefix.starts_with('/') {
        cx.error_at("path_prefix", "must start with '/'");
    }
    let uri = cx.required("server_uri", server_uri).and_then(|uri| cx.field("server_uri", |cx| server(cx, uri)))?;
    let authz_pb::AuthorizationRequest { allowed_headers, headers_to_add } = authorization_request.unwrap_or_default();
    let authz_pb::AuthorizationResponse {
        allowed_upstream_headers,
        allowed_upstream_headers_to_append,
        allowed_client_headers,
        allowed_client_headers_on_success,
        dynamic_metadata_from_headers,
    } = authorization_response.unwrap_or_default();
    refuse!(cx; dynamic_metadata_from_headers);
    let how = HttpAuthorizer {
        cluster: uri.cluster,
        timeout: uri.timeout,
        path_prefix: cx.intern(&path_prefix),
        headers_to_add: cx.each("authorization_request.headers_to_add", headers_to_add, header_value).into(),
        to_upstream: matchers(cx, "allowed_upstream_headers", allowed_upstream_headers).unwrap_or_default(),
        to_upstream_appended: matchers(cx, "allowed_upstream_headers_to_append", allowed_upstream_headers_to_append)
            .unwrap_or_default(),
        to_client: matchers(cx, "allowed_client_headers", allowed_client_headers),
        to_client_on_success: matchers(cx, "allowed_client_headers_on_success", allowed_client_headers_on_success)
            .unwrap_or_default(),
    };
    let allowed = matchers(cx, "authorization_request.allowed_headers", allowed_headers);
    Some((AuthorizerService::Http(how), allowed))
}

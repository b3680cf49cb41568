//! Route configurations, virtual hosts and routes.

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as cors_pb;
use envoy_types::pb::google::protobuf::Any;
use std::collections::HashMap;
use std::time::Duration;
use tulle_core::FractionalPercent;
use tulle_route::config::{AttemptCount, TlsRequirement};
use tulle_route::{CorsPolicy, Route, RouteAction, RouteConfig, VirtualHost};

use super::common::{optional, runtime_fraction, truth};
use super::cx::{Cx, refuse, type_name, without_effect};
use super::forward::{forward, mirror};
use super::matchers::string_matcher;
use super::mutation::{Lists, mutations};
use super::redirect::{direct_response, redirect};
use super::retry::retry_policy;
use super::route_match::route_match;

pub fn route_config(cx: &mut Cx, message: route_pb::RouteConfiguration) -> Option<RouteConfig> {
    let route_pb::RouteConfiguration {
        name,
        virtual_hosts,
        vhds,
        internal_only_headers,
        response_headers_to_add,
        response_headers_to_remove,
        request_headers_to_add,
        request_headers_to_remove,
        most_specific_header_mutations_wins,
        validate_clusters,
        max_direct_response_body_size_bytes,
        cluster_specifier_plugins,
        request_mirror_policies,
        ignore_port_in_host_matching,
        vhost_header,
        ignore_path_parameters_in_path_matching,
        typed_per_filter_config,
        metadata,
        route_specifiers,
    } = message;
    refuse!(cx; vhds, cluster_specifier_plugins, vhost_header, ignore_path_parameters_in_path_matching,
        route_specifiers, request_mirror_policies);
    without_effect!(cx; max_direct_response_body_size_bytes, metadata);
    refuse_filters(cx, typed_per_filter_config);
    // Whether the clusters exist is only known when a request comes; they may arrive later.
    let _ = validate_clusters;
    let hosts = cx.each("virtual_hosts", virtual_hosts, virtual_host);
    let lists = Lists {
        request_add: request_headers_to_add,
        request_remove: request_headers_to_remove,
        response_add: response_headers_to_add,
        response_remove: response_headers_to_remove,
    };
    let name = cx.intern(&name);
    match RouteConfig::new(name, hosts) {
        Ok(mut config) => {
            config.mutations = mutations(cx, lists);
            config.ignore_port = ignore_port_in_host_matching;
            config.most_specific_wins = most_specific_header_mutations_wins;
            config.internal_only_headers = super::address::lower_case(cx, internal_only_headers).into();
            Some(config)
        }
        Err(error) => {
            cx.error_at("virtual_hosts", error.to_string());
            None
        }
    }
}

fn virtual_host(cx: &mut Cx, message: route_pb::VirtualHost) -> Option<VirtualHost> {
    use route_pb::virtual_host::TlsRequirementType as Requirement;
    let route_pb::VirtualHost {
        name,
        domains,
        routes,
        matcher,
        require_tls,
        virtual_clusters,
        rate_limits,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        cors,
        typed_per_filter_config,
        include_request_attempt_count,
        include_attempt_count_in_response,
        retry_policy: retry,
        retry_policy_typed_config,
        hedge_policy,
        include_is_timeout_retry_header,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        request_mirror_policies,
        metadata,
        route_specifiers,
    } = message;
    refuse!(cx; matcher, rate_limits, retry_policy_typed_config, hedge_policy, route_specifiers);
    without_effect!(cx; virtual_clusters, include_is_timeout_retry_header, per_request_buffer_limit_bytes,
        request_body_buffer_limit, metadata);
    let name = cx.name("name", &name)?;
    if domains.is_empty() {
        cx.error_at("domains", "must not be empty");
    }
    let domains = domains.iter().map(|domain| cx.intern(domain)).collect();
    let mut host = VirtualHost::new(name, domains, cx.each("routes", routes, route));
    host.cors = cors_of(cx, cors, typed_per_filter_config);
    host.require_tls = match cx.enumeration::<Requirement>("require_tls", require_tls)? {
        Requirement::None => TlsRequirement::None,
        Requirement::ExternalOnly => TlsRequirement::ExternalOnly,
        Requirement::All => TlsRequirement::All,
    };
    host.retry = retry.and_then(|retry| cx.field("retry_policy", |cx| retry_policy(cx, retry)));
    host.mirrors = cx.each("request_mirror_policies", request_mirror_policies, mirror).into();
    host.include_attempt_count =
        AttemptCount { in_request: include_request_attempt_count, in_response: include_attempt_count_in_response };
    host.mutations = mutations(
        cx,
        Lists {
            request_add: request_headers_to_add,
            request_remove: request_headers_to_remove,
            response_add: response_headers_to_add,
            response_remove: response_headers_to_remove,
        },
    );
    Some(host)
}

fn route(cx: &mut Cx, message: route_pb::Route) -> Option<Route> {
    use route_pb::route::Action;
    let route_pb::Route {
        name,
        r#match,
        metadata,
        decorator,
        typed_per_filter_config,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        tracing,
        per_request_buffer_limit_bytes,
        stat_prefix,
        request_body_buffer_limit,
        route_specifiers,
        action,
    } = message;
    refuse!(cx; route_specifiers);
    // Istio names the VirtualService in `metadata`; nothing here reads it.
    let _ = metadata;
    without_effect!(cx; tracing, per_request_buffer_limit_bytes, stat_prefix, request_body_buffer_limit);
    let matches = cx.required("match", r#match)?;
    let matches = cx.field("match", |cx| route_match(cx, matches));
    let mut cors = None;
    let action = match cx.required("action", action)? {
        Action::Route(mut action) => {
            cors = action.cors.take();
            cx.field("route", |cx| forward(cx, action)).map(|forward| RouteAction::Forward(Box::new(forward)))
        }
        Action::Redirect(action) => {
            cx.field("redirect", |cx| redirect(cx, action)).map(|redirect| RouteAction::Redirect(Box::new(redirect)))
        }
        Action::DirectResponse(action) => cx
            .field("direct_response", |cx| direct_response(cx, action))
            .map(|response| RouteAction::Direct(Box::new(response))),
        Action::NonForwardingAction(_) => Some(RouteAction::NonForwarding),
        Action::FilterAction(_) => {
            cx.refuse("filter_action");
            None
        }
    };
    let cors = cors_of(cx, cors, typed_per_filter_config);
    let mutations = mutations(
        cx,
        Lists {
            request_add: request_headers_to_add,
            request_remove: request_headers_to_remove,
            response_add: response_headers_to_add,
            response_remove: response_headers_to_remove,
        },
    );
    let mut route = Route::new(cx.intern(&name), matches?, action?);
    route.operation = decorator.and_then(|decorator| optional(cx, &decorator.operation));
    route.mutations = mutations;
    route.cors = cors;
    Some(route)
}

/// A CORS policy from its own field or from the per-filter settings; other per-filter settings are refused.
fn cors_of(
    cx: &mut Cx,
    own: Option<route_pb::CorsPolicy>,
    mut filters: HashMap<String, Any>,
) -> Option<CorsPolicy> {
    let packed = filters.remove("envoy.filters.http.cors");
    refuse_filters(cx, filters);
    match (packed, own) {
        (Some(any), _) => cx.field("typed_per_filter_config[envoy.filters.http.cors]", |cx| {
            let message = cx.unpack::<cors_pb::CorsPolicy>(&any)?;
            cors_policy(cx, message)
        }),
        (None, Some(own)) => cx.field("cors", |cx| {
            let message = same_as_filter(cx, own);
            cors_policy(cx, message)
        }),
        (None, None) => None,
    }
}

fn refuse_filters(cx: &mut Cx, filters: HashMap<String, Any>) {
    let mut filters: Vec<_> = filters.into_iter().collect();
    filters.sort_by(|left, right| left.0.cmp(&right.0));
    for (name, any) in filters {
        let message = format!("per-route settings of type {} are not supported", type_name(&any.type_url));
        cx.error_at(&format!("typed_per_filter_config[{name}]"), message);
    }
}

/// The deprecated route field has the same fields as the filter's own message.
fn same_as_filter(_cx: &mut Cx, own: route_pb::CorsPolicy) -> cors_pb::CorsPolicy {
    use route_pb::cors_policy::EnabledSpecifier;
    let route_pb::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
        enabled_specifier,
    } = own;
    cors_pb::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled: enabled_specifier
            .map(|EnabledSpecifier::FilterEnabled(enabled)| -> core_pb::RuntimeFractionalPercent { enabled }),
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
    }
}

fn cors_policy(cx: &mut Cx, message: cors_pb::CorsPolicy) -> Option<CorsPolicy> {
    let cors_pb::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled,
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
    } = message;
    refuse!(cx; allow_private_network_access, forward_not_matching_preflights);
    without_effect!(cx; shadow_enabled);
    let max_age = match max_age.as_str() {
        "" => None,
        text => match text.parse::<u64>() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => {
                cx.error_at("max_age", "must be a number of seconds");
                None
            }
        },
    };
    Some(CorsPolicy {
        enabled: match filter_enabled {
            Some(enabled) => cx.field("filter_enabled", |cx| runtime_fraction(cx, enabled))?,
            None => FractionalPercent::ALWAYS,
        },
        origins: cx.each("allow_origin_string_match", allow_origin_string_match, string_matcher).into(),
        allow_methods: cx.intern(&allow_methods),
        allow_headers: cx.intern(&allow_headers),
        expose_headers: cx.intern(&expose_headers),
        max_age,
        allow_credentials: truth(allow_credentials, false),
    })
}

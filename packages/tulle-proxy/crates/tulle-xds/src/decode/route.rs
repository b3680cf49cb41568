//! Route configurations, virtual hosts and routes.

use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::google::protobuf::{UInt32Value, UInt64Value};
use tulle_policy::FilterOverrides;
use tulle_route::config::{AttemptCount, KeptBody, TlsRequirement};
use tulle_route::{ClusterTarget, Mirror, Route, RouteAction, RouteConfig, VirtualHost};

use super::common::{optional, truth, uint};
use super::cx::{Cx, refuse, without_effect};
use super::filters::{CORS, Level, overrides, slot};
use super::forward::{forward, mirror};
use super::mutation::{Lists, mutations};
use super::redirect::{direct_response, redirect};
use super::retry::{hedged, retry_policy};
use super::route_match::route_match;

/// Envoy's default limit on the body of a direct response.
const MAX_BODY: u32 = 4096;

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
    refuse!(cx; vhds, cluster_specifier_plugins, vhost_header, route_specifiers);
    without_effect!(cx; metadata);
    let filters = overrides(cx, Level { typed: typed_per_filter_config, cors: None });
    let validate = truth(validate_clusters, cx.validates_tables);
    let ((mut hosts, mirrors), validated) = cx.validated(validate, |cx| {
        let hosts = cx.each("virtual_hosts", virtual_hosts, virtual_host);
        (hosts, cx.each("request_mirror_policies", request_mirror_policies, mirror))
    });
    hosts.iter_mut().for_each(|host| inherit_mirrors(host, &mirrors));
    check_bodies(cx, &hosts, uint(max_direct_response_body_size_bytes).unwrap_or(MAX_BODY) as usize);
    for route in hosts.iter_mut().flat_map(|host| &mut host.routes) {
        route.matches.ignore_parameters = ignore_path_parameters_in_path_matching;
    }
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
            config.validated = validated.into();
            config.filters = filters;
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

fn check_bodies(cx: &mut Cx, hosts: &[VirtualHost], most: usize) {
    for (host, route) in hosts.iter().flat_map(|host| host.routes.iter().map(move |route| (host, route))) {
        if let RouteAction::Direct(response) = &route.action
            && response.body.len() > most
        {
            let message = format!("the body of a direct response of {:?} is longer than {most} bytes", host.name);
            cx.error_at("virtual_hosts", message);
        }
    }
}

fn virtual_host(cx: &mut Cx, message: route_pb::VirtualHost) -> Option<VirtualHost> {
    use route_pb::virtual_host::TlsRequirementType as Requirement;
    let route_pb::VirtualHost {
        name,
        domains,
        mut routes,
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
    refuse!(cx; matcher, retry_policy_typed_config, route_specifiers);
    without_effect!(cx; virtual_clusters, metadata);
    let name = cx.name("name", &name)?;
    if domains.is_empty() {
        cx.error_at("domains", "must not be empty");
    }
    let domains = domains.iter().map(|domain| cx.intern(domain)).collect();
    if typed_per_filter_config.contains_key(CORS) {
        routes.iter_mut().for_each(without_old_cors);
    }
    let mut host = VirtualHost::new(name, domains, cx.each("routes", routes, route));
    host.filters = overrides(cx, Level { typed: typed_per_filter_config, cors });
    host.routes.iter_mut().for_each(|route| inherit_cors(route, &host.filters));
    host.require_tls = match cx.enumeration::<Requirement>("require_tls", require_tls)? {
        Requirement::None => TlsRequirement::None,
        Requirement::ExternalOnly => TlsRequirement::ExternalOnly,
        Requirement::All => TlsRequirement::All,
    };
    host.hedged = hedge_policy.map(|policy| cx.field("hedge_policy", |cx| hedged(cx, policy)));
    host.retry = retry.and_then(|retry| cx.field("retry_policy", |cx| retry_policy(cx, retry)));
    host.include_is_timeout = include_is_timeout_retry_header;
    host.kept_body = kept_body(per_request_buffer_limit_bytes, request_body_buffer_limit);
    host.rate_limits = cx.each("rate_limits", rate_limits, slot).into();
    let mirrors = cx.each("request_mirror_policies", request_mirror_policies, mirror);
    inherit_mirrors(&mut host, &mirrors);
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

/// The newer field comes first.
fn kept_body(at_most: Option<UInt32Value>, up_to: Option<UInt64Value>) -> Option<KeptBody> {
    let newer = up_to.map(|limit| KeptBody::UpTo(limit.value));
    newer.or(at_most.map(|limit| KeptBody::AtMost(limit.value)))
}

/// Envoy looks at the deprecated field only where no level has settings of the filter itself.
fn without_old_cors(route: &mut route_pb::Route) {
    if let Some(route_pb::route::Action::Route(action)) = &mut route.action {
        action.cors = None;
    }
}

/// Mirrors of a level hold where the levels inside it say nothing of mirrors.
fn inherit_mirrors(host: &mut VirtualHost, outer: &[Mirror]) {
    for route in &mut host.routes {
        if let RouteAction::Forward(forward) = &mut route.action
            && forward.mirrors.is_empty()
        {
            forward.mirrors = outer.into();
        }
    }
}

fn inherit_cors(route: &mut Route, outer: &FilterOverrides) {
    route.filters.inherit_cors(outer);
    if let RouteAction::Forward(forward) = &mut route.action
        && let ClusterTarget::Weighted(arms) = &mut forward.target
    {
        for arm in arms {
            arm.filters.inherit_cors(&route.filters);
            arm.filters.inherit_cors(outer);
        }
    }
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
    without_effect!(cx; tracing, stat_prefix);
    let matches = cx.required("match", r#match)?;
    let matches = cx.field("match", |cx| route_match(cx, matches))?;
    let mut cors = None;
    let action = match cx.required("action", action)? {
        Action::Route(mut action) => {
            cors = action.cors.take();
            cx.field("route", |cx| forward(cx, action, &matches.path))
                .map(|forward| RouteAction::Forward(Box::new(forward)))
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
    let filters = overrides(cx, Level { typed: typed_per_filter_config, cors });
    let mutations = mutations(
        cx,
        Lists {
            request_add: request_headers_to_add,
            request_remove: request_headers_to_remove,
            response_add: response_headers_to_add,
            response_remove: response_headers_to_remove,
        },
    );
    let mut route = Route::new(cx.intern(&name), matches, action?);
    route.operation = decorator.and_then(|decorator| optional(cx, &decorator.operation));
    route.mutations = mutations;
    route.filters = filters;
    route.kept_body = kept_body(per_request_buffer_limit_bytes, request_body_buffer_limit);
    Some(route)
}

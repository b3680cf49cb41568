//! A server that a filter asks over HTTP (`envoy.config.core.v3.HttpUri`): an address, and the cluster it is reached by.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use tulle_core::Str;

use super::super::cx::Cx;

pub struct Server {
    /// What requests name as their host.
    pub authority: Str,
    /// With its query; at least `/`.
    pub path: Str,
    pub cluster: Str,
    pub timeout: Duration,
}

pub fn server(cx: &mut Cx, message: core_pb::HttpUri) -> Option<Server> {
    use core_pb::http_uri::HttpUpstreamType;
    let core_pb::HttpUri { uri, timeout, http_upstream_type } = message;
    let HttpUpstreamType::Cluster(cluster) = cx.required("http_upstream_type", http_upstream_type)?;
    let cluster = cx.name("cluster", &cluster)?;
    let timeout = cx.required("timeout", timeout).and_then(|timeout| cx.duration("timeout", Some(timeout)))?;
    let rest = uri.split_once("://").map_or(&*uri, |(_, rest)| rest);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let sane = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if authority.is_empty() || !sane(authority) || !sane(path) {
        cx.error_at("uri", "must name a host");
        return None;
    }
    let path = if path.is_empty() { "/" } else { path };
    Some(Server { authority: cx.intern(authority), path: cx.intern(path), cluster, timeout })
}

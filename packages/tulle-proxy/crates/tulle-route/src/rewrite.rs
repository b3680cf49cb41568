//! Rewritten paths and authorities, redirect locations: text in, text out.

use tulle_core::address::split_authority;
use tulle_core::{RequestView, Str};
use tulle_telemetry::{LogView, TextFormat};

use crate::action::{Forward, HostRewrite, PathRewrite, Redirect, RedirectPath, RegexRewrite};
use crate::config::Route;
use crate::matching::{PathMatch, path_of};

/// A compiled RE2 substitution (`\0`…`\9`, `\\`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Substitution {
    pub pieces: Box<[SubstitutionPiece]>,
}

/// Literal text or a captured group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubstitutionPiece {
    Literal(Str),
    Capture(usize),
}

impl RegexRewrite {
    /// Replaces every match in `text`.
    pub fn apply(&self, text: &str) -> String {
        let replaced = self.pattern.replace_all(text.as_bytes(), |captures: &regex::bytes::Captures<'_>| {
            let mut out = Vec::new();
            for piece in &self.substitution.pieces {
                match piece {
                    SubstitutionPiece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                    SubstitutionPiece::Capture(group) => {
                        out.extend_from_slice(captures.get(*group).map_or(&b""[..], |found| found.as_bytes()));
                    }
                }
            }
            out
        });
        String::from_utf8_lossy(&replaced).into_owned()
    }
}

/// The path to forward, with the request's query; `None` leaves it as it is. Formats see the request as `view`.
pub fn path<R, V>(action: &Forward, route: &Route, request: &R, view: &V) -> Option<String>
where
    R: RequestView + ?Sized,
    V: LogView + ?Sized,
{
    let whole = request.path();
    let plain = path_of(whole);
    let rest = &whole[plain.len()..];
    match action.path_rewrite.as_ref()? {
        PathRewrite::Prefix(prefix) => Some(replace_prefix(&route.matches.path, plain, prefix) + rest),
        PathRewrite::Regex(rewrite) => {
            // Where nothing would be left the path stays, as in Envoy.
            Some(rewrite.apply(plain)).filter(|path| !path.is_empty()).map(|path| rooted(path) + rest)
        }
        PathRewrite::Template(rewrite) => match &route.matches.path {
            PathMatch::Template(template) => Some(rooted(rewrite.apply(template, plain)?) + rest),
            _ => None,
        },
        PathRewrite::Format(format) => rendered(format, view).map(|path| rooted(path) + rest),
    }
}

/// What a format gives, where it gives anything.
fn rendered<V: LogView + ?Sized>(format: &TextFormat, view: &V) -> Option<String> {
    let mut out = Vec::new();
    format.render_header(view, &mut out);
    String::from_utf8(out).ok().filter(|text| !text.is_empty())
}

/// Puts `replacement` in the place of what the route matched: its prefix, or else the whole path.
fn replace_prefix(matched: &PathMatch, plain: &str, replacement: &str) -> String {
    let rest = match matched {
        PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => plain.get(prefix.len()..).unwrap_or(""),
        PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::Template(_) | PathMatch::Connect => "",
    };
    rooted(format!("{replacement}{rest}"))
}

/// A request target starts with a slash, whatever the configuration made of it.
fn rooted(path: String) -> String {
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// The authority to forward by the route, where it does not depend on the endpoint; `None` leaves it as it is.
pub fn authority<R, V>(action: &Forward, request: &R, view: &V) -> Option<Str>
where
    R: RequestView + ?Sized,
    V: LogView + ?Sized,
{
    match action.host_rewrite.as_ref()? {
        HostRewrite::Literal(host) => Some(host.clone()),
        HostRewrite::Auto => None,
        HostRewrite::Header(name) => {
            let value = std::str::from_utf8(request.field(name)?).ok()?;
            (!value.is_empty()).then(|| value.into())
        }
        HostRewrite::PathRegex(rewrite) => {
            let host = rewrite.apply(path_of(request.path()));
            (!host.is_empty()).then(|| host.into())
        }
        HostRewrite::Format(format) => rendered(format, view).map(Str::from),
    }
}

/// The `Location` of a redirect (Envoy's `newUri`).
pub fn redirect_location<R: RequestView + ?Sized>(redirect: &Redirect, route: &Route, request: &R) -> String {
    let scheme = match &redirect.scheme {
        Some(scheme) => scheme,
        None if redirect.https => "https",
        None => request.scheme(),
    };
    let host = match &redirect.host {
        Some(host) => host,
        None => redirect_host(request, scheme, redirect.port.is_some()),
    };
    let port = redirect.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{}", redirect_path(redirect, route, request.path()))
}

/// Where a request was sent to.
pub fn own_location<R: RequestView + ?Sized>(request: &R) -> String {
    format!("{}://{}{}", request.scheme(), request.authority(), request.path())
}

/// The request's host; its port goes when another is given, or when it was the old scheme's default and that changes.
fn redirect_host<'r, R: RequestView + ?Sized>(request: &'r R, scheme: &str, has_port: bool) -> &'r str {
    let (host, port) = split_authority(request.authority());
    let was_default = matches!((request.scheme(), port), ("https", Some("443")) | ("http", Some("80")));
    let drop = has_port || (scheme != request.scheme() && was_default);
    if drop { host } else { request.authority() }
}

fn redirect_path(redirect: &Redirect, route: &Route, whole: &str) -> String {
    let plain = path_of(whole);
    let query = if redirect.strip_query { "" } else { &whole[plain.len()..] };
    match &redirect.path {
        RedirectPath::Keep => format!("{plain}{query}"),
        // Its own query stays, even when queries are stripped.
        RedirectPath::Replace(path) if path.contains('?') => path.to_string(),
        RedirectPath::Replace(path) => format!("{path}{query}"),
        RedirectPath::Prefix(prefix) => replace_prefix(&route.matches.path, plain, prefix) + query,
        RedirectPath::Regex(rewrite) => rooted(rewrite.apply(plain)) + query,
    }
}

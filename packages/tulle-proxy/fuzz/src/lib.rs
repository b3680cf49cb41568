//! What is fuzzed: for each parser a function that takes any bytes and panics when one of its promises does not hold.
//!
//! `fuzz_targets` has a binary for each, for libFuzzer. [`replay`] runs one over its corpus and over mutations of it that
//! are the same every time; the proxy's tests do so with all of them.

mod config;
mod http1;
mod http2;
mod identity;
mod mutate;
mod routing;
mod telemetry;
mod tls;
mod token;

pub use mutate::replay;

/// One parser under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of the binary and of the folder in `corpus`.
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Mutations that a replay tries.
    pub rounds: u32,
}

const fn target(name: &'static str, run: fn(&[u8]), rounds: u32) -> Target {
    Target { name, run, rounds }
}

/// All of them. A target whose single run is slow gets fewer rounds.
pub const TARGETS: &[Target] = &[
    target("h1_request", http1::request, 8000),
    target("h1_response", http1::response, 8000),
    target("h1_body", http1::body, 8000),
    target("h2_server", http2::server, 4000),
    target("h2_client", http2::client, 4000),
    target("hpack", http2::hpack, 1000),
    target("path", routing::path, 20_000),
    target("authority", routing::authority, 8000),
    target("route", routing::route, 4000),
    target("path_template", routing::template, 400),
    target("grpc_timeout", routing::grpc_timeout, 8000),
    target("proxy_protocol", tls::proxy_protocol, 8000),
    target("client_hello", tls::client_hello, 4000),
    target("trace", telemetry::trace, 8000),
    target("access_log", telemetry::access_log, 4000),
    target("jwt", token::jwt, 4000),
    target("jwks", token::jwks, 4000),
    target("spiffe_id", identity::spiffe_id, 8000),
    target("certificate", identity::certificate, 4000),
    target("xfcc", identity::xfcc, 8000),
    target("xds", config::xds, 4000),
    target("bootstrap", config::bootstrap, 40),
];

/// The target of that name.
///
/// # Panics
/// When there is none.
pub fn named(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target is called {name}"))
}

//! The admin endpoint, in Envoy's shape: what the proxy is doing, for operators and for Prometheus.
//!
//! [`Admin`] answers a request from what it holds, without I/O; [`server`] is the HTTP around it. What only the assembly
//! knows comes through [`Hooks`].

mod breakers;
mod clusters;
mod config_dump;
mod info;
pub mod server;
mod stats;
mod timestamp;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Method, StatusCode};
use tulle_config::{Config, ConfigStore, Node, Readiness};
use tulle_connect::Breakers;
use tulle_core::{Str, UnixNanos};
use tulle_identity::IdentityCell;
use tulle_telemetry::Registry;
use tulle_xds::bootstrap::Packed;
use tulle_xds::driver::SharedClient;

use crate::worker::hosts::Known;

/// What the endpoint asks of the rest of the process. Called on the control thread; must not block.
pub trait Hooks: Send + Sync {
    /// Listeners that are bound, with the addresses they got.
    fn bound(&self) -> Vec<(Str, SocketAddr)>;

    /// Why listeners could not be bound; empty when all are.
    fn failures(&self) -> Vec<String>;

    /// Whether every worker runs on the configuration published last.
    fn applied(&self) -> bool;

    /// What is known of hosts beside the configuration.
    fn hosts(&self) -> Known;

    /// Whether the process is on its way out.
    fn draining(&self) -> bool;

    /// Stops accepting and drains; the process stays.
    fn drain_listeners(&self);

    /// Sets the level of the log.
    ///
    /// # Errors
    /// With what would be right, when `level` is not one.
    fn set_log_level(&self, level: &str) -> Result<(), String>;

    fn concurrency(&self) -> usize;

    /// The wall clock.
    fn now(&self) -> UnixNanos;
}

/// Everything that is shown.
pub struct Admin {
    pub store: Arc<ConfigStore>,
    pub registry: Registry,
    pub client: SharedClient,
    pub identity: Arc<IdentityCell>,
    pub node: Node,
    /// The bootstrap as loaded.
    pub bootstrap: Packed,
    /// When the process started.
    pub started: UnixNanos,
    pub hooks: Arc<dyn Hooks>,
    pub breakers: Arc<Breakers>,
    /// Set by `/healthcheck/fail`.
    pub failed: AtomicBool,
}

/// A response: the status, its content type and its body.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: String,
}

const TEXT: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";

impl Answer {
    fn text(body: impl Into<String>) -> Answer {
        Answer { status: StatusCode::OK, content_type: TEXT, body: body.into() }
    }

    fn json(value: &serde_json::Value) -> Answer {
        // The alternate form is indented, as Envoy's.
        Answer { status: StatusCode::OK, content_type: JSON, body: format!("{value:#}\n") }
    }

    fn error(status: StatusCode, body: impl Into<String>) -> Answer {
        Answer { status, content_type: TEXT, body: body.into() }
    }
}

/// The state of the process in Envoy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    PreInitializing,
    Initializing,
    Live,
    Draining,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::PreInitializing => "PRE_INITIALIZING",
            State::Initializing => "INITIALIZING",
            State::Live => "LIVE",
            State::Draining => "DRAINING",
        }
    }
}

/// Path, method, what it does: also the text of `/help`.
const ROUTES: &[(&str, Method, &str)] = &[
    ("/", Method::GET, "this list"),
    ("/certs", Method::GET, "certificates of this proxy"),
    ("/clusters", Method::GET, "clusters and their endpoints (?format=json)"),
    ("/config_dump", Method::GET, "the configuration in force (?include_eds)"),
    ("/drain_listeners", Method::POST, "stop accepting and drain"),
    ("/healthcheck/fail", Method::POST, "report not ready"),
    ("/healthcheck/ok", Method::POST, "report ready again"),
    ("/help", Method::GET, "this list"),
    ("/listeners", Method::GET, "bound listeners (?format=json)"),
    ("/logging", Method::POST, "set the log level (?level=)"),
    ("/ready", Method::GET, "200 once the first configuration is in force"),
    ("/server_info", Method::GET, "version, state, node"),
    ("/stats", Method::GET, "statistics (?filter=text&usedonly&format=prometheus)"),
    ("/stats/prometheus", Method::GET, "statistics for Prometheus"),
];

impl Admin {
    /// Answers one request. `query` is the part after `?`, empty when there is none.
    pub fn answer(&self, method: &Method, path: &str, query: &str) -> Answer {
        let Some((path, allowed, _)) = ROUTES.iter().find(|(known, _, _)| *known == path) else {
            return Answer::error(StatusCode::NOT_FOUND, format!("no such page; there are:\n{}", help()));
        };
        if method != allowed && !(method == Method::HEAD && *allowed == Method::GET) {
            return Answer::error(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes {allowed}\n"));
        }
        let query = Query(query);
        match *path {
            "/certs" => Answer::json(&info::certificates(self)),
            "/clusters" => clusters::answer(self, query),
            "/config_dump" => Answer::json(&config_dump::dump(self, query)),
            "/drain_listeners" => {
                self.hooks.drain_listeners();
                Answer::text("OK\n")
            }
            "/healthcheck/fail" => self.fail_health_check(true),
            "/healthcheck/ok" => self.fail_health_check(false),
            "/listeners" => info::listeners(self, query),
            "/logging" => self.logging(query),
            "/ready" => self.ready(),
            "/server_info" => Answer::json(&info::server(self)),
            "/stats" => stats::answer(self, query),
            "/stats/prometheus" => stats::prometheus(self),
            _ => Answer::text(help()),
        }
    }

    fn config(&self) -> Arc<Config> {
        self.store.load()
    }

    fn state(&self) -> State {
        if self.hooks.draining() || self.failed.load(Ordering::Relaxed) {
            return State::Draining;
        }
        match (self.config().readiness, self.hooks.applied()) {
            (Readiness::Initializing, _) => State::PreInitializing,
            (Readiness::Complete, false) => State::Initializing,
            (Readiness::Complete, true) if self.hooks.failures().is_empty() => State::Live,
            (Readiness::Complete, true) => State::Initializing,
        }
    }

    fn ready(&self) -> Answer {
        let state = self.state();
        let mut body = format!("{}\n", state.name());
        let expired = self.identity.get().is_some_and(|identity| identity.has_expired());
        if state == State::Live && !expired {
            return Answer::text(body);
        }
        if expired {
            body.push_str("the certificate of this proxy has expired\n");
        }
        for failure in self.hooks.failures() {
            body.push_str(&failure);
            body.push('\n');
        }
        Answer::error(StatusCode::SERVICE_UNAVAILABLE, body)
    }

    fn fail_health_check(&self, failed: bool) -> Answer {
        self.failed.store(failed, Ordering::Relaxed);
        Answer::text("OK\n")
    }

    fn logging(&self, query: Query<'_>) -> Answer {
        let Some(level) = query.get("level") else {
            return Answer::error(StatusCode::BAD_REQUEST, "say ?level=error, warn, info or debug\n");
        };
        match self.hooks.set_log_level(level) {
            Ok(()) => Answer::text(format!("active log level: {level}\n")),
            Err(reason) => Answer::error(StatusCode::BAD_REQUEST, format!("{reason}\n")),
        }
    }
}

fn help() -> String {
    let line = |(path, method, what): &(&str, Method, &str)| format!("  {path} ({method}): {what}\n");
    ROUTES.iter().map(line).collect()
}

/// A query string; values are taken as they stand.
#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The value of `key`; empty when it is there without one.
    fn get(self, key: &str) -> Option<&'a str> {
        let mut pairs = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    fn has(self, key: &str) -> bool {
        self.get(key).is_some()
    }
}

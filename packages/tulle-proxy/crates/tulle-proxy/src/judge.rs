//! Says of calls in a file what the access rules of a configuration decide, without serving anything: how a policy is
//! tried out, and how the compiled rules are compared with a plain reading of the policies they came from.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use tulle_config::{Config, ConnectionCheck, FilterChain, HttpFilter, NetworkFilter};
use tulle_core::headers::{Certificate, Described};
use tulle_core::metadata::{Metadata, Struct, Value};
use tulle_core::{Headers, RequestView};
use tulle_policy::Rbac;
use tulle_policy::rbac::{Facts, NoRequest, Peer};
use tulle_token::{claims, provider};
use tulle_xds::bootstrap::Loaded;

/// One call: a line of JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    /// By name; its first chain, and that chain's first connection manager, decide.
    listener: String,
    /// The caller's SPIFFE id; without one it is plaintext.
    principal: Option<String>,
    source_ip: IpAddr,
    remote_ip: IpAddr,
    destination: SocketAddr,
    #[serde(default)]
    server_name: String,
    /// Without one it is a mere connection.
    http: Option<Http>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    method: String,
    path: String,
    authority: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Of a verified token: a JSON object.
    claims: Option<serde_json::Value>,
}

/// One line per call: `allowed` or `denied`, and what shadow rules would have said.
///
/// # Errors
/// The first line that is no call, or names no listener.
pub fn judge(loaded: &Loaded, calls: &str) -> Result<String, String> {
    let config = tulle_xds::ads::Client::new(&loaded.bootstrap).take_update().unwrap_or_default();
    let mut out = String::new();
    for (index, line) in calls.lines().enumerate() {
        let call: Call = serde_json::from_str(line).map_err(|e| format!("line {}: {e}", index + 1))?;
        let chain = chain(&config, &call.listener).ok_or_else(|| format!("line {}: no such listener", index + 1))?;
        let (allowed, shadow) = decide(chain, &call);
        let word = |allowed| if allowed { "allowed" } else { "denied" };
        out.push_str(&format!("{} {}\n", word(allowed), word(shadow)));
    }
    Ok(out)
}

fn chain<'c>(config: &'c Config, listener: &str) -> Option<&'c FilterChain> {
    config.listeners.get(listener)?.chains.first()
}

fn decide(chain: &FilterChain, call: &Call) -> (bool, bool) {
    let metadata = call.http.as_ref().and_then(Http::metadata);
    let facts = Facts {
        destination: call.destination,
        direct: call.source_ip,
        remote: call.remote_ip,
        server_name: Some(call.server_name.as_str()).filter(|name| !name.is_empty()),
        peer: call.principal.as_deref().map_or(Peer::Anonymous, Peer::Named),
        metadata: metadata.as_ref(),
    };
    let mut found = (true, true);
    for check in &chain.access {
        if let ConnectionCheck::Rules(rules) = check {
            ask(rules, &facts, &NoRequest, &mut found);
        }
    }
    if let (Some(http), NetworkFilter::Http(hcm)) = (&call.http, &chain.filter) {
        let request =
            Described { request: http, metadata: metadata.as_ref(), certificate: Certificate::default(), source: None };
        for filter in &hcm.filters {
            if let HttpFilter::Rbac(named) = filter {
                ask(&named.settings, &facts, &request, &mut found);
            }
        }
    }
    found
}

fn ask<R: RequestView + ?Sized>(rules: &Rbac, facts: &Facts<'_>, request: &R, (allowed, shadow): &mut (bool, bool)) {
    *allowed &= rules.enforced.as_ref().is_none_or(|rules| !rules.decide(facts, request).is_denied());
    *shadow &= rules.shadow.as_ref().is_none_or(|rules| !rules.decide(facts, request).is_denied());
}

impl Http {
    fn metadata(&self) -> Option<Metadata> {
        let payload = claims::object(self.claims.as_ref()?.to_string().as_bytes())?;
        let fields = Struct::from([("payload".into(), Value::Struct(payload))]);
        Some(Metadata { filters: [(provider::METADATA.into(), fields)].into() })
    }
}

impl Headers for Http {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(|value| value.as_bytes())
    }

    fn visit_values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.header(name).into_iter().for_each(visit);
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.headers.iter().for_each(|(name, value)| visit(name.as_bytes(), value.as_bytes()));
    }
}

impl RequestView for Http {
    fn method(&self) -> &str {
        &self.method
    }

    fn authority(&self) -> &str {
        &self.authority
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn scheme(&self) -> &str {
        "http"
    }
}

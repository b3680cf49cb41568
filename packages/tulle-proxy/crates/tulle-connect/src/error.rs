//! Why there is no connection to an endpoint.

use std::fmt;
use std::io;

/// What failed, in the order in which a connection is made.
#[derive(Debug)]
pub enum DialError {
    /// A circuit-breaker limit.
    Overflow,
    /// Not within the cluster's connect timeout (which covers the TLS handshake).
    Timeout,
    /// The socket could not be connected.
    Connect(io::Error),
    /// The endpoint's certificate was refused, or the handshake failed otherwise.
    Tls(String),
    /// TLS is configured but its material has not arrived or is unusable.
    NoIdentity(String),
    /// The endpoint's address cannot be dialed (an unresolved name).
    Address,
    /// Nobody may go to the endpoint's address through a proxy.
    Forbidden,
}

impl DialError {
    /// As Envoy words it in local replies and logs; empty when it says nothing.
    pub fn transport_failure(&self) -> String {
        match self {
            DialError::Connect(e) => format!("delayed connect error: {}", plain(e)),
            DialError::Tls(reason) => format!("TLS_error:{reason}:TLS_error_end"),
            DialError::Forbidden => "forbidden address".to_owned(),
            DialError::NoIdentity(_) => "TLS error: Secret is not supplied by SDS".to_owned(),
            _ => String::new(),
        }
    }
}

/// The system's own words without Rust's "(os error N)".
fn plain(e: &io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

impl fmt::Display for DialError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Overflow => out.write_str("circuit breaker is open"),
            DialError::Timeout => out.write_str("connect timeout"),
            DialError::Connect(e) => write!(out, "cannot connect: {e}"),
            DialError::Tls(reason) => write!(out, "TLS: {reason}"),
            DialError::NoIdentity(reason) => write!(out, "TLS material: {reason}"),
            DialError::Address => out.write_str("the address is not resolved"),
            DialError::Forbidden => out.write_str("the address is forbidden"),
        }
    }
}

impl std::error::Error for DialError {}

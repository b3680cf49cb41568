//! Where a listener binds and an endpoint lives.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::Str;

/// An address in configuration: an IP socket, a name still to be resolved, a Unix path, or an in-process listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    Ip(SocketAddr),
    /// A DNS name and a port (STRICT_DNS and LOGICAL_DNS clusters).
    Name {
        host: Str,
        port: u16,
    },
    /// A Unix stream socket's path.
    Pipe(Str),
    /// Envoy's internal listener, by its name.
    Internal(Str),
}

impl Address {
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(socket) => Some(*socket),
            _ => None,
        }
    }

    pub fn ip(&self) -> Option<IpAddr> {
        self.socket().map(|socket| socket.ip())
    }

    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Ip(socket) => Some(socket.port()),
            Address::Name { port, .. } => Some(*port),
            Address::Pipe(_) | Address::Internal(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        Address::Ip(socket)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(socket) => socket.fmt(out),
            Address::Name { host, port } => write!(out, "{host}:{port}"),
            Address::Pipe(path) => out.write_str(path),
            Address::Internal(name) => write!(out, "envoy://{name}/"),
        }
    }
}

/// Splits an authority into host and port text; IPv6 literals keep their brackets and an absent port is `None`.
pub fn split_authority(authority: &str) -> (&str, Option<&str>) {
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_bracket..].rfind(':') {
        Some(colon) => {
            let colon = after_bracket + colon;
            (&authority[..colon], Some(&authority[colon + 1..]))
        }
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_split_around_brackets() {
        assert_eq!(split_authority("a.b:80"), ("a.b", Some("80")));
        assert_eq!(split_authority("a.b"), ("a.b", None));
        assert_eq!(split_authority("[::1]:80"), ("[::1]", Some("80")));
        assert_eq!(split_authority("[::1]"), ("[::1]", None));
        assert_eq!(split_authority(""), ("", None));
    }
}

//! What access rules may know beside the request: the connection, its peer, and what earlier filters found out.

use std::net::{IpAddr, SocketAddr};

use tulle_core::{Headers, Metadata, RequestView};

/// Who is at the other end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer<'a> {
    /// No certificate was presented and verified.
    Anonymous,
    /// A verified certificate without a SPIFFE id of a mesh.
    Unnamed,
    /// The SPIFFE id of a verified certificate.
    Named(&'a str),
}

/// The facts of one connection or request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Where the client connected to (before redirection, where that is known).
    pub destination: SocketAddr,
    /// The other end of the connection.
    pub direct: IpAddr,
    /// The client, as far as `x-forwarded-for` is trusted to tell it.
    pub remote: IpAddr,
    /// SNI of the TLS handshake.
    pub server_name: Option<&'a str>,
    pub peer: Peer<'a>,
    /// Dynamic metadata that earlier filters wrote.
    pub metadata: Option<&'a Metadata>,
}

/// What rules see of a connection that carries no HTTP: no field, no path.
#[derive(Clone, Copy, Debug)]
pub struct NoRequest;

impl Headers for NoRequest {
    fn header(&self, _name: &str) -> Option<&[u8]> {
        None
    }

    fn visit_values(&self, _name: &str, _visit: &mut dyn FnMut(&[u8])) {}

    fn visit_headers(&self, _visit: &mut dyn FnMut(&[u8], &[u8])) {}
}

impl RequestView for NoRequest {
    fn method(&self) -> &str {
        ""
    }

    fn authority(&self) -> &str {
        ""
    }

    fn path(&self) -> &str {
        ""
    }

    fn scheme(&self) -> &str {
        ""
    }

    fn field(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

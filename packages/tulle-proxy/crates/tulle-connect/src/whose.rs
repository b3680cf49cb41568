//! Whose requests a connection carries, where that makes a difference.

use tulle_config::cluster::NameByRequest;
use tulle_core::address::split_authority;

use crate::proxy_header::Ends;

/// Requests share a connection when this is the same for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// The client, where the endpoint is told of it.
    pub ends: Option<Ends>,
    /// The server's name, where requests say it.
    pub name: Option<ServerIs>,
}

/// Who a server has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIs {
    /// A DNS name, or an address, which is never sent.
    pub host: Box<str>,
    pub sent: bool,
    pub verified: bool,
}

impl ServerIs {
    /// By a request's authority, or what stands for it. `None` where that names nobody.
    pub fn by_request(settings: &NameByRequest, authority: &[u8]) -> Option<ServerIs> {
        let (host, _) = split_authority(std::str::from_utf8(authority).ok()?);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| ServerIs {
            host: host.to_ascii_lowercase().into(),
            sent: settings.sent,
            verified: settings.verified,
        })
    }
}

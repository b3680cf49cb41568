//! What consistent hashing hashes of a request (Envoy's `HashPolicyImpl`).

use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use tulle_core::cookie::cookie;
use tulle_core::{RequestView, xxh64};

use crate::action::{Forward, HashSource};
use crate::matching::query_of;

/// The hash that the route's policies give; `None` when none of them finds anything.
///
/// `source` is the client's address, where one is known.
pub fn hash_of<R: RequestView + ?Sized>(action: &Forward, request: &R, source: Option<IpAddr>) -> Option<u64> {
    let mut hash: Option<u64> = None;
    for policy in &action.hash {
        if let Some(found) = policy.source.hash(request, source) {
            // Rotated, so that two equal policies do not cancel each other out.
            hash = Some(hash.unwrap_or(0).rotate_left(1) ^ found);
        }
        if policy.terminal && hash.is_some() {
            break;
        }
    }
    hash
}

/// A cookie that a hash policy wants to be set because the request has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedCookie<'c> {
    pub name: &'c str,
    pub path: Option<&'c str>,
    pub ttl: Duration,
}

/// The first cookie with a lifetime that the request lacks; its value's hash is then the request's.
pub fn missing_cookie<'c, R: RequestView + ?Sized>(action: &'c Forward, request: &R) -> Option<WantedCookie<'c>> {
    action.hash.iter().find_map(|policy| match &policy.source {
        HashSource::Cookie { name, path, ttl: Some(ttl) } if cookie(request, name, |_| ()).is_none() => {
            Some(WantedCookie { name, path: path.as_deref(), ttl: *ttl })
        }
        _ => None,
    })
}

impl HashSource {
    fn hash<R: RequestView + ?Sized>(&self, request: &R, source: Option<IpAddr>) -> Option<u64> {
        match self {
            HashSource::Header { name, rewrite } => match rewrite {
                None => header(request, name),
                Some(rewrite) => {
                    let value = String::from_utf8_lossy(request.field(name)?);
                    Some(xxh64(rewrite.apply(&value).as_bytes(), 0))
                }
            },
            HashSource::Cookie { name, .. } => cookie(request, name, |value| xxh64(value, 0)),
            HashSource::SourceIp => source.map(address),
            HashSource::QueryParameter(name) => query(request.path(), name),
            HashSource::FilterState(_) => None,
        }
    }
}

fn header<R: RequestView + ?Sized>(request: &R, name: &str) -> Option<u64> {
    let mut count = 0;
    request.visit_values(name, &mut |_| count += 1);
    if count <= 1 {
        return request.field(name).map(|value| xxh64(value, 0));
    }
    // Several values are hashed in sorted order, so that their order on the wire does not matter.
    let mut values: Vec<Vec<u8>> = Vec::with_capacity(count);
    request.visit_values(name, &mut |value| values.push(value.to_vec()));
    values.sort();
    Some(values.iter().fold(0, |seed, value| xxh64(value, seed)))
}

fn address(source: IpAddr) -> u64 {
    let mut buffer = [0u8; 64];
    let mut rest = &mut buffer[..];
    // The longest address text has 45 characters.
    write!(rest, "{source}").expect("64 bytes hold any address");
    let left = rest.len();
    xxh64(&buffer[..64 - left], 0)
}

fn query(path: &str, name: &str) -> Option<u64> {
    let pairs = query_of(path).split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| xxh64(value.as_bytes(), 0))
}

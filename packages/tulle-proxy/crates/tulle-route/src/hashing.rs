//! What consistent hashing hashes of a request (Envoy's `HashPolicyImpl`).

use std::io::Write;
use std::net::IpAddr;

use tulle_core::cookie::{SetCookie, cookie};
use tulle_core::{RequestView, xxh64};
use tulle_policy::query::{parameter, query_of};

use crate::action::{HashPolicy, HashSource, RegexRewrite, WhenMissing};

/// What hash policies look at.
pub struct Hashed<'a, R: ?Sized> {
    pub request: &'a R,
    /// The client, as far as forwarding proxies before this one are believed.
    pub source: Option<IpAddr>,
}

/// The hash that policies give; `None` when none of them finds anything. `generate` gives a client that
/// lacks a cookie one and says its value, where there can be one.
pub fn hash_of<R: RequestView + ?Sized>(
    policies: &[HashPolicy],
    hashed: &Hashed<'_, R>,
    generate: &mut dyn FnMut(&SetCookie) -> Option<String>,
) -> Option<u64> {
    let mut hash: Option<u64> = None;
    for policy in policies {
        if let Some(found) = policy.source.hash(hashed, generate) {
            // Rotated, so that two equal policies do not cancel each other out.
            hash = Some(hash.unwrap_or(0).rotate_left(1) ^ found);
        }
        if policy.terminal && hash.is_some() {
            break;
        }
    }
    hash
}

impl HashSource {
    fn hash<R: RequestView + ?Sized>(
        &self,
        hashed: &Hashed<'_, R>,
        generate: &mut dyn FnMut(&SetCookie) -> Option<String>,
    ) -> Option<u64> {
        let request = hashed.request;
        match self {
            HashSource::Header { name, rewrite } => header(request, name, rewrite.as_ref()),
            HashSource::Cookie { cookie: own, when_missing } => {
                // An empty value counts as none, as in Envoy.
                let held = cookie(request, &own.name, |value| (!value.is_empty()).then(|| xxh64(value, 0))).flatten();
                held.or_else(|| match when_missing {
                    WhenMissing::Generated => generate(own).map(|value| xxh64(value.as_bytes(), 0)),
                    WhenMissing::NotHashed => None,
                })
            }
            HashSource::SourceIp => hashed.source.map(address),
            HashSource::QueryParameter(name) => {
                parameter(query_of(request.path()), name).map(|value| xxh64(value.as_bytes(), 0))
            }
            HashSource::FilterState(_) => None,
        }
    }
}

fn header<R: RequestView + ?Sized>(request: &R, name: &str, rewrite: Option<&RegexRewrite>) -> Option<u64> {
    let mut count = 0;
    request.visit_values(name, &mut |_| count += 1);
    if count <= 1 && rewrite.is_none() {
        return request.field(name).map(|value| xxh64(value, 0));
    }
    // Several values are hashed in sorted order, so that their order on the wire does not matter.
    let mut values: Vec<Vec<u8>> = Vec::with_capacity(count);
    request.visit_values(name, &mut |value| {
        values.push(match rewrite {
            Some(rewrite) => rewrite.apply(&String::from_utf8_lossy(value)).as_bytes().to_vec(),
            None => value.to_vec(),
        });
    });
    values.sort();
    (!values.is_empty()).then(|| values.iter().fold(0, |seed, value| xxh64(value, seed)))
}

fn address(source: IpAddr) -> u64 {
    let mut buffer = [0u8; 64];
    let mut rest = &mut buffer[..];
    // The longest address text has 45 characters.
    write!(rest, "{source}").expect("64 bytes hold any address");
    let left = rest.len();
    xxh64(&buffer[..64 - left], 0)
}

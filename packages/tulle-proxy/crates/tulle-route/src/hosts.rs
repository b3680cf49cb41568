//! Finds the virtual host of an authority, with Envoy's order: exact, longest suffix wildcard, longest prefix
//! wildcard, then `*`.

use std::collections::BTreeSet;

use tulle_core::address::split_authority;
use tulle_core::hash::FastMap;

use crate::config::{RouteConfigError, VirtualHost};

/// Domains of a route configuration by kind; values are positions in `RouteConfig::hosts`.
#[derive(Clone, Debug, Default)]
pub struct HostIndex {
    exact: FastMap<Box<str>, u32>,
    /// `*.foo` under `.foo`; `lengths` has their lengths, longest first.
    suffixes: Wildcards,
    /// `foo.*` under `foo.`.
    prefixes: Wildcards,
    any: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct Wildcards {
    by_text: FastMap<Box<str>, u32>,
    lengths: Box<[usize]>,
}

impl HostIndex {
    pub fn new(hosts: &[VirtualHost]) -> Result<Self, RouteConfigError> {
        let mut index = HostIndex::default();
        let mut names = std::collections::HashSet::new();
        for (position, host) in hosts.iter().enumerate() {
            if !names.insert(&host.name) {
                return Err(RouteConfigError::DuplicateHost(host.name.to_string()));
            }
            for domain in &host.domains {
                let earlier = index.insert(domain, position as u32)?;
                if let Some(earlier) = earlier {
                    return Err(RouteConfigError::DuplicateDomain {
                        domain: domain.to_string(),
                        first: hosts[earlier as usize].name.to_string(),
                        second: host.name.to_string(),
                    });
                }
            }
        }
        index.suffixes.sort();
        index.prefixes.sort();
        Ok(index)
    }

    fn insert(&mut self, domain: &str, position: u32) -> Result<Option<u32>, RouteConfigError> {
        let lower = domain.to_ascii_lowercase();
        let stars = lower.matches('*').count();
        Ok(if lower == "*" {
            self.any.replace(position)
        } else if let (1, Some(suffix)) = (stars, lower.strip_prefix('*')) {
            self.suffixes.by_text.insert(suffix.into(), position)
        } else if let (1, Some(prefix)) = (stars, lower.strip_suffix('*')) {
            self.prefixes.by_text.insert(prefix.into(), position)
        } else if stars == 0 && !lower.is_empty() {
            self.exact.insert(lower.into(), position)
        } else {
            return Err(RouteConfigError::Wildcard(domain.to_owned()));
        })
    }

    /// The position of the virtual host for `authority`; allocation-free for authorities up to 255 bytes.
    pub fn find(&self, authority: &str, ignore_port: bool) -> Option<u32> {
        if self.exact.is_empty() && self.suffixes.by_text.is_empty() && self.prefixes.by_text.is_empty() {
            return self.any;
        }
        let host = if ignore_port { split_authority(authority).0 } else { authority };
        let mut buffer = [0u8; 255];
        let lowered;
        let host = match lower_into(host, &mut buffer) {
            Some(host) => host,
            None => {
                lowered = host.to_ascii_lowercase();
                &lowered
            }
        };
        self.find_lower(host)
    }

    fn find_lower(&self, host: &str) -> Option<u32> {
        if let Some(&found) = self.exact.get(host) {
            return Some(found);
        }
        let suffix = self.suffixes.find(host, |length| host.get(host.len() - length..));
        let prefix = || self.prefixes.find(host, |length| host.get(..length));
        suffix.or_else(prefix).or(self.any)
    }
}

fn lower_into<'a>(host: &str, buffer: &'a mut [u8; 255]) -> Option<&'a str> {
    let target = buffer.get_mut(..host.len())?;
    target.copy_from_slice(host.as_bytes());
    target.make_ascii_lowercase();
    tulle_core::text::utf8(target)
}

impl Wildcards {
    fn sort(&mut self) {
        let lengths: BTreeSet<usize> = self.by_text.keys().map(|text| text.len()).collect();
        self.lengths = lengths.into_iter().rev().collect();
    }

    /// A wildcard stands for at least one character, so only texts shorter than the host can match.
    fn find<'h>(&self, host: &'h str, piece: impl Fn(usize) -> Option<&'h str>) -> Option<u32> {
        let shorter = self.lengths.iter().filter(|&&length| length < host.len());
        shorter.filter_map(|&length| piece(length)).find_map(|text| self.by_text.get(text).copied())
    }
}

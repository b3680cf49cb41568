//! Rate-limit descriptors: which entries a request yields, by the `rate_limits` of filters, routes and virtual hosts.

use std::borrow::Cow;
use std::net::IpAddr;

use tulle_core::{Cidr, RequestView, Str};

use crate::matcher::HeaderMatcher;

/// One entry of `rate_limits`: which descriptor a request yields.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitSlot {
    /// Only filters of this stage look at it.
    pub stage: u32,
    pub actions: Box<[RateLimitAction]>,
}

/// What a virtual host's slots are beside the route's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostSlots {
    /// Looked at when the route has none of any stage.
    #[default]
    Override,
    Include,
    Ignore,
}

/// The slots of a request's route and virtual host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slots<'r> {
    pub route: &'r [RateLimitSlot],
    pub host: &'r [RateLimitSlot],
    /// What the route says of its virtual host's.
    pub mode: HostSlots,
}

impl<'r> Slots<'r> {
    /// Those that a filter of `stage` looks at; `mode` is what the filter says of the virtual host's.
    pub fn of(self, stage: u32, mode: HostSlots) -> impl Iterator<Item = &'r RateLimitSlot> {
        let with_host = match (self.mode, mode) {
            (HostSlots::Include, _) | (_, HostSlots::Include) => true,
            (HostSlots::Ignore, _) | (_, HostSlots::Ignore) => false,
            (HostSlots::Override, HostSlots::Override) => self.route.is_empty(),
        };
        let host = if with_host { self.host } else { &[] };
        self.route.iter().chain(host).filter(move |slot| slot.stage == stage)
    }
}

/// One action of a rate-limit entry: one entry of the descriptor.
#[derive(Clone, Debug, PartialEq)]
pub enum RateLimitAction {
    DestinationCluster,
    RequestHeader {
        name: Str,
        key: Str,
        when_absent: WhenAbsent,
    },
    QueryParameter {
        name: Str,
        key: Str,
        when_absent: WhenAbsent,
    },
    RemoteAddress,
    /// The address's network, of these many bits for IPv4 and IPv6.
    MaskedRemoteAddress {
        v4: u8,
        v6: u8,
    },
    Generic {
        key: Str,
        value: Str,
    },
    HeaderValueMatch {
        key: Str,
        value: Str,
        expected: bool,
        headers: Box<[HeaderMatcher]>,
    },
}

/// What an absent header does to the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAbsent {
    /// There is none.
    NoDescriptor,
    /// It goes without this entry.
    SkipEntry,
}

/// What a request's descriptors are made from.
pub struct Source<'a, R: ?Sized> {
    pub request: &'a R,
    pub cluster: Option<&'a str>,
    pub remote: IpAddr,
}

/// Entries in order; values as they are sent.
pub type Descriptor<'a> = Vec<(&'a str, Cow<'a, [u8]>)>;

impl RateLimitSlot {
    /// The descriptor that the request yields by this slot, if any.
    pub fn descriptor<'a, R: RequestView + ?Sized>(&'a self, source: &Source<'a, R>) -> Option<Descriptor<'a>> {
        let mut entries = Descriptor::with_capacity(self.actions.len());
        for action in &self.actions {
            match action.entry(source) {
                Entry::Is(key, value) => entries.push((key, value)),
                Entry::Skipped => {}
                Entry::Missing => return None,
            }
        }
        (!entries.is_empty()).then_some(entries)
    }
}

enum Entry<'a> {
    Is(&'a str, Cow<'a, [u8]>),
    Skipped,
    Missing,
}

impl RateLimitAction {
    fn entry<'a, R: RequestView + ?Sized>(&'a self, source: &Source<'a, R>) -> Entry<'a> {
        let or_absent = |key: &'a Str, value: Option<Cow<'a, [u8]>>, when: WhenAbsent| match (value, when) {
            (Some(value), _) => Entry::Is(key, value),
            (None, WhenAbsent::SkipEntry) => Entry::Skipped,
            (None, WhenAbsent::NoDescriptor) => Entry::Missing,
        };
        match self {
            RateLimitAction::DestinationCluster => match source.cluster {
                Some(cluster) => Entry::Is("destination_cluster", Cow::Borrowed(cluster.as_bytes())),
                None => Entry::Missing,
            },
            RateLimitAction::RequestHeader { name, key, when_absent } => {
                or_absent(key, source.request.field(name).map(Cow::Borrowed), *when_absent)
            }
            RateLimitAction::QueryParameter { name, key, when_absent } => {
                or_absent(key, query(source.request.path(), name).map(Cow::Borrowed), *when_absent)
            }
            RateLimitAction::RemoteAddress => {
                Entry::Is("remote_address", Cow::Owned(source.remote.to_canonical().to_string().into_bytes()))
            }
            RateLimitAction::MaskedRemoteAddress { v4, v6 } => {
                let address = source.remote.to_canonical();
                let bits = if address.is_ipv4() { *v4 } else { *v6 };
                Entry::Is("masked_remote_address", Cow::Owned(network(address, bits).into_bytes()))
            }
            RateLimitAction::Generic { key, value } => Entry::Is(key, Cow::Borrowed(value.as_bytes())),
            RateLimitAction::HeaderValueMatch { key, value, expected, headers } => {
                let all = headers.iter().all(|matcher| matcher.matches(source.request));
                if all == *expected { Entry::Is(key, Cow::Borrowed(value.as_bytes())) } else { Entry::Missing }
            }
        }
    }
}

/// `10.1.2.0/24`, as Envoy writes it.
fn network(address: IpAddr, bits: u8) -> String {
    match Cidr::new(address, bits) {
        Some(network) => network.to_string(),
        None => address.to_string(),
    }
}

fn query<'a>(path: &'a str, name: &str) -> Option<&'a [u8]> {
    let (_, query) = path.split_once('?')?;
    let query = query.split('#').next()?;
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(stage: u32, value: &str) -> RateLimitSlot {
        let action = RateLimitAction::Generic { key: "k".into(), value: value.into() };
        RateLimitSlot { stage, actions: [action].into() }
    }

    #[test]
    fn the_virtual_hosts_slots_count_when_the_route_has_none() {
        let (route, host) = ([slot(0, "r0"), slot(1, "r1")], [slot(0, "h0"), slot(2, "h2")]);
        let names = |slots: Slots<'_>, stage, mode| -> Vec<String> {
            let value = |slot: &RateLimitSlot| match &slot.actions[0] {
                RateLimitAction::Generic { value, .. } => value.to_string(),
                other => panic!("{other:?}"),
            };
            slots.of(stage, mode).map(value).collect()
        };
        let both = Slots { route: &route, host: &host, mode: HostSlots::Override };
        assert_eq!(names(both, 0, HostSlots::Override), ["r0"]);
        assert_eq!(names(both, 2, HostSlots::Override), [""; 0]);
        let none = Slots { route: &[], ..both };
        assert_eq!(names(none, 2, HostSlots::Override), ["h2"]);
        assert_eq!(names(none, 2, HostSlots::Ignore), [""; 0]);
        assert_eq!(names(both, 0, HostSlots::Include), ["r0", "h0"]);
        assert_eq!(names(Slots { mode: HostSlots::Include, ..both }, 0, HostSlots::Override), ["r0", "h0"]);
    }

    #[test]
    fn networks_and_query_parameters() {
        assert_eq!(network("10.1.2.3".parse().unwrap(), 24), "10.1.2.0/24");
        assert_eq!(network("fd00::1".parse().unwrap(), 8), "fd00::/8");
        assert_eq!(query("/a?x=1&y=2#y=3", "y"), Some(&b"2"[..]));
        assert_eq!((query("/a?xy", "x"), query("/a", "x")), (None, None));
    }
}

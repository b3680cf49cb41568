//! Rate-limit descriptors: which entries a request yields, by the `rate_limits` of filters, routes and virtual hosts.

use std::borrow::Cow;
use std::net::IpAddr;

use tulle_core::metadata::Value;
use tulle_core::{Cidr, Metadata, RequestView, Str};

use crate::matcher::HeaderMatcher;
use crate::query::{QueryMatcher, decoded_parameter, query_of};

/// One entry of `rate_limits`: which descriptor a request yields.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitSlot {
    /// Only filters of this stage look at it.
    pub stage: u32,
    pub actions: Box<[RateLimitAction]>,
    /// How many hits a request counts as; one by default.
    pub hits: Option<u32>,
    /// Another limit than the service's own.
    pub limit: Option<LimitSource>,
}

/// Where a limit comes from that holds instead of the service's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitSource {
    Fixed {
        requests: u32,
        unit: Str,
    },
    /// From the request's metadata, where it is there.
    Metadata(MetadataPath),
}

/// A place in metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataPath {
    pub filter: Str,
    pub path: Box<[Str]>,
}

impl MetadataPath {
    fn of<'m>(&self, metadata: Option<&'m Metadata>) -> Option<&'m Value> {
        metadata?.lookup(&self.filter, &self.path)
    }
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
    /// The cluster that this proxy says it belongs to.
    SourceCluster,
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
    QueryParameterValueMatch {
        key: Str,
        value: Str,
        expected: bool,
        parameters: Box<[QueryMatcher]>,
    },
    RemoteAddressMatch {
        key: Str,
        value: Str,
        /// Whether the address is to be in one of the ranges or in none.
        expected: bool,
        ranges: Box<[Cidr]>,
    },
    /// A text in what filters found out about the request.
    Metadata {
        key: Str,
        place: MetadataPath,
        default: Option<Str>,
        when_absent: WhenAbsent,
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
    /// The cluster that the proxy itself belongs to.
    pub own_cluster: &'a str,
    pub remote: IpAddr,
    pub metadata: Option<&'a Metadata>,
}

/// What is counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Descriptor<'a> {
    /// In order; values as they are sent.
    pub entries: Vec<(&'a str, Cow<'a, [u8]>)>,
    pub hits: Option<u32>,
    pub limit: Option<LimitOverride<'a>>,
}

/// A limit that holds instead of the service's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitOverride<'a> {
    pub requests: u32,
    /// As in `envoy.type.v3.RateLimitUnit`.
    pub unit: &'a str,
}

impl RateLimitSlot {
    /// The descriptor that the request yields by this slot, if any.
    pub fn descriptor<'a, R: RequestView + ?Sized>(&'a self, source: &Source<'a, R>) -> Option<Descriptor<'a>> {
        let mut entries = Vec::with_capacity(self.actions.len());
        for action in &self.actions {
            match action.entry(source) {
                Entry::Is(key, value) => entries.push((key, value)),
                Entry::Skipped => {}
                Entry::Missing => return None,
            }
        }
        let limit = self.limit.as_ref().and_then(|limit| match limit {
            LimitSource::Fixed { requests, unit } => Some(LimitOverride { requests: *requests, unit }),
            LimitSource::Metadata(place) => limit_of(place.of(source.metadata)?),
        });
        (!entries.is_empty()).then_some(Descriptor { entries, hits: self.hits, limit })
    }
}

/// A struct of `requests_per_unit`, a number, and `unit`, a text.
fn limit_of(value: &Value) -> Option<LimitOverride<'_>> {
    let fields = value.as_struct()?;
    let Some(Value::Number(number)) = fields.get("requests_per_unit") else { return None };
    // Saturates, where a service could not count so far anyway.
    Some(LimitOverride { requests: *number as u32, unit: fields.get("unit")?.as_str()? })
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
        let matched = |key: &'a Str, value: &'a Str, matches: bool| match matches {
            true => Entry::Is(key, Cow::Borrowed(value.as_bytes())),
            false => Entry::Missing,
        };
        match self {
            RateLimitAction::SourceCluster => Entry::Is("source_cluster", Cow::Borrowed(source.own_cluster.as_bytes())),
            RateLimitAction::DestinationCluster => match source.cluster {
                Some(cluster) => Entry::Is("destination_cluster", Cow::Borrowed(cluster.as_bytes())),
                None => Entry::Missing,
            },
            RateLimitAction::RequestHeader { name, key, when_absent } => {
                or_absent(key, source.request.field(name).map(Cow::Borrowed), *when_absent)
            }
            RateLimitAction::QueryParameter { name, key, when_absent } => {
                or_absent(key, decoded_parameter(query_of(source.request.path()), name), *when_absent)
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
                matched(key, value, all == *expected)
            }
            RateLimitAction::QueryParameterValueMatch { key, value, expected, parameters } => {
                let query = query_of(source.request.path());
                let all = parameters.iter().all(|matcher| matcher.matches_decoded(query));
                matched(key, value, all == *expected)
            }
            RateLimitAction::RemoteAddressMatch { key, value, expected, ranges } => {
                let address = source.remote.to_canonical();
                matched(key, value, ranges.iter().any(|range| range.contains(address)) == *expected)
            }
            RateLimitAction::Metadata { key, place, default, when_absent } => {
                let found = place.of(source.metadata).and_then(Value::as_str).filter(|text| !text.is_empty());
                let text = found.or(default.as_deref());
                or_absent(key, text.map(|text| Cow::Borrowed(text.as_bytes())), *when_absent)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(stage: u32, value: &str) -> RateLimitSlot {
        let action = RateLimitAction::Generic { key: "k".into(), value: value.into() };
        RateLimitSlot { stage, actions: [action].into(), hits: None, limit: None }
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
    fn networks() {
        assert_eq!(network("10.1.2.3".parse().unwrap(), 24), "10.1.2.0/24");
        assert_eq!(network("fd00::1".parse().unwrap(), 8), "fd00::/8");
    }

    #[test]
    fn metadata_may_hold_a_limit() {
        let fields = |number, unit: &str| {
            let pairs = [("requests_per_unit", number), ("unit", Value::String(unit.into()))];
            Value::Struct(pairs.into_iter().map(|(name, value)| (name.into(), value)).collect())
        };
        let limit = LimitOverride { requests: 42, unit: "HOUR" };
        assert_eq!(limit_of(&fields(Value::Number(42.0), "HOUR")), Some(limit));
        assert_eq!(limit_of(&fields(Value::String("42".into()), "HOUR")), None);
        assert_eq!(limit_of(&Value::Number(42.0)), None);
    }
}

//! Selecting a route for a request, as Envoy does: virtual host by authority, then the first route that matches.

use tulle_core::RequestView;
use tulle_policy::FilterOverride;

use crate::action::{ClusterName, ClusterTarget, DrawBy, Forward, RouteAction, WeightedCluster};
use crate::config::{KeptBody, Route, RouteConfig, TlsRequirement, VirtualHost};
use crate::hashing::{Hashed, hash_of};
use crate::mutation::HeaderMutations;

/// The chosen route with its levels, borrowed from the table.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'c> {
    pub config: &'c RouteConfig,
    pub host: &'c VirtualHost,
    pub route: &'c Route,
    /// The weighted arm that was drawn, when the target is weighted.
    pub arm: Option<&'c WeightedCluster>,
}

/// Selects the route of `request`; `random` are 64 uniform bits, drawn once per request. Allocates nothing.
pub fn select<'c, R: RequestView + ?Sized>(config: &'c RouteConfig, request: &R, random: u64) -> Option<Selected<'c>> {
    let host = host_of(config, request)?;
    if host.wants_tls(request) {
        return None;
    }
    let route = host.routes.iter().find(|route| route.matches.matches(request, random))?;
    let arm = match &route.action {
        RouteAction::Forward(forward) => forward.target.draw(draw(forward, request, random)),
        _ => None,
    };
    Some(Selected { config, host, route, arm })
}

fn host_of<'c, R: RequestView + ?Sized>(config: &'c RouteConfig, request: &R) -> Option<&'c VirtualHost> {
    Some(&config.hosts[config.index.find(request.authority(), config.ignore_port)? as usize])
}

/// Whether a request that [`select`] found nothing for is to be asked again over TLS.
pub fn wants_tls<R: RequestView + ?Sized>(config: &RouteConfig, request: &R) -> bool {
    host_of(config, request).is_some_and(|host| host.wants_tls(request))
}

impl VirtualHost {
    /// As Envoy, by `x-forwarded-proto` and `x-envoy-internal`, which the connection manager has seen to.
    fn wants_tls<R: RequestView + ?Sized>(&self, request: &R) -> bool {
        let plain = || request.header("x-forwarded-proto").is_some_and(|scheme| scheme != b"https");
        match self.require_tls {
            TlsRequirement::None => false,
            TlsRequirement::ExternalOnly => plain() && request.header("x-envoy-internal") != Some(b"true"),
            TlsRequirement::All => plain(),
        }
    }
}

/// The number that decides among weighted clusters.
fn draw<R: RequestView + ?Sized>(forward: &Forward, request: &R, random: u64) -> u64 {
    let told = match &forward.draw_by {
        None => None,
        Some(DrawBy::Header(name)) => only_number(request, name),
        Some(DrawBy::Hash) => {
            // Nobody could be told of a cookie made here, as in Envoy.
            hash_of(&forward.hash, &Hashed { request, source: request.source() }, &mut |_| None)
        }
    };
    // Other bits than the runtime fraction's: with the same ones, a fraction would also decide the arm.
    told.unwrap_or(random.rotate_left(32))
}

/// The number in a header that is there once.
fn only_number<R: RequestView + ?Sized>(request: &R, name: &str) -> Option<u64> {
    let mut count = 0;
    request.visit_values(name, &mut |_| count += 1);
    let value = request.header(name).filter(|_| count == 1)?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl ClusterTarget {
    /// The weighted arm for a number, in proportion to the weights; `None` when not weighted or all weights are zero.
    pub fn draw(&self, number: u64) -> Option<&WeightedCluster> {
        let ClusterTarget::Weighted(arms) = self else { return None };
        let total: u64 = arms.iter().map(|arm| u64::from(arm.weight)).sum();
        let mut point = number.checked_rem(total)?;
        arms.iter().find(|arm| {
            let hit = point < u64::from(arm.weight);
            point = point.wrapping_sub(u64::from(arm.weight));
            hit
        })
    }
}

fn named<'a, R: RequestView + ?Sized>(request: &'a R, header: &str) -> Option<&'a str> {
    std::str::from_utf8(request.field(header)?).ok().filter(|name| !name.is_empty())
}

impl<'c> Selected<'c> {
    pub fn action(&self) -> &'c RouteAction {
        &self.route.action
    }

    /// The cluster's name; `None` when the action does not forward or the naming header is absent or not text.
    pub fn cluster<'a, R: RequestView + ?Sized>(&self, request: &'a R) -> Option<&'a str>
    where
        'c: 'a,
    {
        let RouteAction::Forward(forward) = &self.route.action else { return None };
        match &forward.target {
            ClusterTarget::Single(name) => Some(name),
            ClusterTarget::Weighted(_) => match &self.arm?.name {
                ClusterName::Is(name) => Some(name),
                ClusterName::Header(header) => named(request, header),
            },
            ClusterTarget::Header(header) => named(request, header),
        }
    }

    /// What the most specific level that says anything of the filter `name` says of it.
    pub fn filter_override(&self, name: &str) -> Option<&'c FilterOverride> {
        let arm = self.arm.and_then(|arm| arm.filters.get(name));
        arm.or_else(|| self.route.filters.get(name))
            .or_else(|| self.host.filters.get(name))
            .or_else(|| self.config.filters.get(name))
    }

    /// What every level says of the filter `name`, the most specific first.
    pub fn filter_overrides(&self, name: &str) -> impl DoubleEndedIterator<Item = &'c FilterOverride> {
        let arm = self.arm.and_then(|arm| arm.filters.get(name));
        let outer = [self.route.filters.get(name), self.host.filters.get(name), self.config.filters.get(name)];
        std::iter::once(arm).chain(outer).flatten()
    }

    /// The most bytes of a body that are kept for another try, where the listener keeps `most`.
    pub fn kept_body(&self, most: usize) -> usize {
        match self.route.kept_body.or(self.host.kept_body) {
            None => most,
            Some(KeptBody::AtMost(limit)) => most.min(limit as usize),
            Some(KeptBody::UpTo(limit)) => usize::try_from(limit).unwrap_or(usize::MAX),
        }
    }

    /// The levels' header mutations in the order in which they apply.
    pub fn levels(&self) -> impl Iterator<Item = &'c HeaderMutations> {
        let [first, middle, last] = if self.config.most_specific_wins {
            [&self.config.mutations, &self.host.mutations, &self.route.mutations]
        } else {
            [&self.route.mutations, &self.host.mutations, &self.config.mutations]
        };
        // Envoy applies the weighted cluster's before those of the enclosing levels, whichever way they go.
        let arm = self.arm.map(|arm| &arm.mutations);
        arm.into_iter().chain([first, middle, last]).filter(|level| !level.is_empty())
    }
}

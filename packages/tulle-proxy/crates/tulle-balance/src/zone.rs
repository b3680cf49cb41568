//! Zone-aware routing: how much of the requests stays in the proxy's own zone, by Envoy's arithmetic.
//!
//! Source: Envoy, "Zone aware routing" (intro/arch_overview/upstream/load_balancing/zone_aware). The proxies of a zone
//! together may send no more than their share to the hosts of that zone; the rest goes where hosts outnumber proxies.

use tulle_core::Rng;

use crate::config::{ZoneAware, ZoneBasis};
use crate::endpoints::{EndpointSet, Health, Locality};

/// Shares are counted in ten-thousandths.
const WHOLE: u64 = 10_000;

/// The proxies like this one: where it is, and how many healthy ones each zone has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalCluster {
    pub own: Locality,
    pub zones: Box<[ZoneSize]>,
}

/// A zone's healthy hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneSize {
    pub locality: Locality,
    pub hosts: u64,
    pub weight: u64,
}

impl LocalCluster {
    /// From the local cluster's endpoints at the highest priority.
    pub fn new(own: Locality, set: &EndpointSet) -> LocalCluster {
        let mut zones: Vec<ZoneSize> = Vec::new();
        for group in set.localities.iter().filter(|group| group.priority == 0) {
            let at = zones.iter().position(|zone| zone.locality == group.locality).unwrap_or_else(|| {
                zones.push(ZoneSize { locality: group.locality.clone(), ..ZoneSize::default() });
                zones.len() - 1
            });
            for endpoint in group.endpoints.iter().filter(|endpoint| endpoint.health == Health::Healthy) {
                zones[at].hosts += 1;
                zones[at].weight += u64::from(endpoint.weight);
            }
        }
        LocalCluster { own, zones: zones.into() }
    }
}

/// How requests spread over the zones of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneRouting {
    /// Zones play no part.
    Off,
    /// Everything goes to the zone with this number.
    Direct(usize),
    Residual(Residual),
}

/// Some stays, the rest goes where there is room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residual {
    /// Number of the own zone, and how many of ten thousand requests stay there.
    stay: Option<(usize, u64)>,
    /// Running sums of the room that each zone has.
    room: Box<[u64]>,
}

/// Decides for the zones of a cluster, given by their healthy hosts.
pub fn routing(settings: &ZoneAware, local: &LocalCluster, zones: &[ZoneSize]) -> ZoneRouting {
    let healthy: u64 = zones.iter().map(|zone| zone.hosts).sum();
    let own = zones.iter().position(|zone| zone.locality == local.own);
    let at_home = local.zones.iter().find(|zone| zone.locality == local.own).map_or(0, |zone| zone.hosts);
    if zones.len() < 2 || healthy < settings.min_cluster_size || at_home == 0 {
        return ZoneRouting::Off;
    }
    if let (Some(own), Some(least)) = (own, settings.force_local)
        && zones[own].hosts >= u64::from(least)
    {
        return ZoneRouting::Direct(own);
    }
    if local.zones.len() < 2 {
        return ZoneRouting::Off;
    }
    let (ours, theirs) = (shares(settings.basis, &local.zones), shares(settings.basis, zones));
    let ours_at =
        |zone: &ZoneSize| local.zones.iter().position(|known| known.locality == zone.locality).map_or(0, |at| ours[at]);
    if let Some(own) = own
        && theirs[own] > 0
        && theirs[own] >= ours_at(&zones[own])
    {
        return ZoneRouting::Direct(own);
    }
    let stay = own.map(|own| (own, (theirs[own] * WHOLE).checked_div(ours_at(&zones[own])).unwrap_or(0)));
    let mut sum = 0;
    let room = zones.iter().enumerate().map(|(at, zone)| {
        if own != Some(at) {
            sum += theirs[at].saturating_sub(ours_at(zone));
        }
        sum
    });
    ZoneRouting::Residual(Residual { room: room.collect(), stay })
}

fn shares(basis: ZoneBasis, zones: &[ZoneSize]) -> Vec<u64> {
    let size = |zone: &ZoneSize| match basis {
        ZoneBasis::Hosts => zone.hosts,
        ZoneBasis::Weights => zone.weight,
    };
    let total: u64 = zones.iter().map(size).sum();
    zones.iter().map(|zone| (size(zone) * WHOLE).checked_div(total).unwrap_or(0)).collect()
}

impl Residual {
    /// The zone for one request.
    pub fn pick(&self, rng: &mut Rng) -> usize {
        if let Some((own, share)) = self.stay
            && rng.below(WHOLE) < share
        {
            return own;
        }
        match self.room.last() {
            Some(total) if *total > 0 => {
                let point = rng.below(*total);
                self.room.partition_point(|sum| *sum <= point)
            }
            // Rounding left no room anywhere.
            _ => rng.below(self.room.len() as u64) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str, hosts: u64) -> ZoneSize {
        let locality = Locality { zone: name.into(), ..Locality::default() };
        ZoneSize { locality, hosts, weight: hosts }
    }

    fn decide(ours: &[(&str, u64)], theirs: &[(&str, u64)], settings: ZoneAware) -> ZoneRouting {
        let make = |list: &[(&str, u64)]| list.iter().map(|(name, hosts)| zone(name, *hosts)).collect::<Vec<_>>();
        let local = LocalCluster { own: zone("a", 0).locality, zones: make(ours).into() };
        routing(&settings, &local, &make(theirs))
    }

    fn spread(routing: &ZoneRouting) -> Vec<u32> {
        let ZoneRouting::Residual(residual) = routing else { panic!("{routing:?}") };
        let (mut rng, mut counts) = (Rng::seeded(7), vec![0; residual.room.len()]);
        (0..10_000).for_each(|_| counts[residual.pick(&mut rng)] += 1);
        counts
    }

    #[test]
    fn a_zone_with_enough_hosts_keeps_its_requests() {
        let all = ZoneAware::default();
        assert_eq!(decide(&[("a", 5), ("b", 5)], &[("a", 5), ("b", 5)], all), ZoneRouting::Direct(0));
        assert_eq!(decide(&[("b", 9), ("a", 1)], &[("b", 5), ("a", 5)], all), ZoneRouting::Direct(1));
    }

    #[test]
    fn a_short_zone_sends_the_rest_where_hosts_outnumber_proxies() {
        // Of the proxies 50 % are in a, of the hosts 25 %: half stays. The others have 25 and 50 % against 25 each.
        let routing = decide(&[("a", 10), ("b", 5), ("c", 5)], &[("a", 5), ("b", 5), ("c", 10)], ZoneAware::default());
        let counts = spread(&routing);
        assert!((4_800..5_200).contains(&counts[0]) && counts[1] == 0, "{counts:?}");
    }

    #[test]
    fn a_zone_without_hosts_sends_everything_away() {
        let counts = spread(&decide(&[("a", 1), ("b", 1)], &[("b", 6), ("c", 6)], ZoneAware::default()));
        assert_eq!((counts[0], counts[1]), (0, 10_000), "b has no room, c has all of it");
    }

    #[test]
    fn small_clusters_and_unknown_surroundings_switch_it_off() {
        let all = ZoneAware::default();
        let both = [("a", 5), ("b", 5)];
        assert_eq!(decide(&both, &[("a", 2), ("b", 3)], all), ZoneRouting::Off);
        assert_eq!(decide(&both, &[("a", 10)], all), ZoneRouting::Off);
        assert_eq!(decide(&[("a", 5)], &both, all), ZoneRouting::Off);
        assert_eq!(decide(&[("b", 5), ("c", 5)], &both, all), ZoneRouting::Off, "nobody like us is here");
        let forced = ZoneAware { force_local: Some(2), ..all };
        assert_eq!(decide(&[("a", 5)], &[("a", 2), ("b", 30)], forced), ZoneRouting::Direct(0));
    }

    #[test]
    fn weights_may_be_the_measure() {
        let settings = ZoneAware { basis: ZoneBasis::Weights, ..ZoneAware::default() };
        let heavy = ZoneSize { weight: 100, ..zone("a", 3) };
        let local = LocalCluster { own: zone("a", 0).locality, zones: [zone("a", 9), zone("b", 1)].into() };
        assert_eq!(routing(&settings, &local, &[heavy, zone("b", 3)]), ZoneRouting::Direct(0));
    }
}

//! The names of a DNS cluster: looked up again and again, each on its own, keeping the last good answer.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tulle_balance::{Endpoint, EndpointSet, LocalityEndpoints};
use tulle_config::cluster::{DnsDiscovery, DnsEndpoint, DnsFamily};
use tulle_core::{Address, Rng};

/// How many of a name's addresses are endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// `STRICT_DNS`.
    All,
    /// `LOGICAL_DNS`: one, kept for as long as it is among the answers, so that answers in turning order move nothing.
    One,
}

/// The answers so far of one cluster's names.
pub struct Answers {
    names: Arc<DnsDiscovery>,
    taken: Taken,
    found: Vec<Vec<SocketAddr>>,
    asked: Vec<bool>,
}

impl Answers {
    pub fn new(names: Arc<DnsDiscovery>, taken: Taken) -> Answers {
        let count = names.endpoints.len();
        let is_ip = |entry: &DnsEndpoint| !matches!(entry.address, Address::Name { .. });
        let asked = names.endpoints.iter().map(is_ip).collect();
        Answers { names, taken, found: vec![Vec::new(); count], asked }
    }

    /// Takes in the answer for the name at `index`. A failed or empty one changes nothing but that it was asked.
    pub fn note(&mut self, index: usize, answer: Vec<SocketAddr>) {
        self.asked[index] = true;
        let mut fit = of_family(answer, self.names.family);
        let kept = self.found[index].first().copied();
        if self.taken == Taken::One {
            let stays = kept.filter(|address| fit.contains(address));
            fit = stays.or(fit.first().copied()).into_iter().collect();
        } else {
            fit.sort();
            fit.dedup();
        }
        if !fit.is_empty() {
            self.found[index] = fit;
        }
    }

    /// Every name has been looked up once, whatever came of it.
    pub fn complete(&self) -> bool {
        self.asked.iter().all(|asked| *asked)
    }

    pub fn endpoints(&self) -> EndpointSet {
        // Names of one locality are one group, whose weight counts once.
        let mut groups: Vec<(&DnsEndpoint, Vec<Endpoint>)> = Vec::new();
        for (entry, found) in self.names.endpoints.iter().zip(&self.found) {
            let same = |known: &&DnsEndpoint| known.priority == entry.priority && known.locality == entry.locality;
            let at = groups.iter().position(|(known, _)| same(known)).unwrap_or_else(|| {
                groups.push((entry, Vec::new()));
                groups.len() - 1
            });
            match &entry.address {
                Address::Name { .. } => {
                    groups[at].1.extend(found.iter().map(|address| endpoint(entry, Address::Ip(*address))));
                }
                fixed => groups[at].1.push(endpoint(entry, fixed.clone())),
            }
        }
        let localities = groups.into_iter().map(|(entry, endpoints)| LocalityEndpoints {
            locality: entry.locality.clone(),
            priority: entry.priority,
            weight: entry.locality_weight,
            endpoints: endpoints.into(),
        });
        EndpointSet { localities: localities.collect(), ..self.names.policy.clone() }
    }
}

fn endpoint(entry: &DnsEndpoint, address: Address) -> Endpoint {
    Endpoint {
        hostname: Some(entry.hostname.clone()),
        weight: entry.weight,
        health: entry.health,
        metadata: entry.metadata.clone(),
        ..Endpoint::new(address)
    }
}

/// The addresses of the family that configuration wants; of one family only, except with `ALL` (Envoy's
/// `DnsLookupFamily`).
pub fn of_family(found: Vec<SocketAddr>, family: DnsFamily) -> Vec<SocketAddr> {
    let (v4, v6): (Vec<SocketAddr>, Vec<SocketAddr>) = found.iter().partition(|address| address.is_ipv4());
    match family {
        DnsFamily::All => found,
        DnsFamily::V4Only => v4,
        DnsFamily::V6Only => v6,
        DnsFamily::V4Preferred if v4.is_empty() => v6,
        DnsFamily::V4Preferred => v4,
        DnsFamily::Auto if v6.is_empty() => v4,
        DnsFamily::Auto => v6,
    }
}

/// Asks the system's resolver, on a thread that may block. What is below `localhost` is nobody else's to answer for
/// (RFC 6761 §6.3).
pub async fn system(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.ends_with(".localhost") {
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// Looks up the name at `index` for ever: after `refresh`, or sooner or later after failures as configured. Answers and
/// failures (as empty answers) go to `tell`. The system's resolver does not give TTLs, so they cannot be respected.
pub async fn follow<R>(
    names: Arc<DnsDiscovery>,
    index: usize,
    seed: u64,
    resolve: R,
    tell: impl Fn(usize, Vec<SocketAddr>),
) where
    R: AsyncFn(String, u16) -> io::Result<Vec<SocketAddr>>,
{
    let Address::Name { host, port } = &names.endpoints[index].address else { return };
    let mut rng = Rng::seeded(seed);
    let mut failures = 0;
    loop {
        let answer = resolve(host.to_string(), *port).await.unwrap_or_default();
        failures = if answer.is_empty() { failures + 1 } else { 0 };
        tell(index, answer);
        tokio::time::sleep(pause(&names, failures, &mut rng)).await;
    }
}

/// Until the next lookup: with a failure rate given, exponential with full jitter (Envoy's `JitteredExponentialBackOff`).
fn pause(names: &DnsDiscovery, failures: u32, rng: &mut Rng) -> Duration {
    match names.failure_refresh {
        Some((base, max)) if failures > 0 => {
            let ceiling = base.saturating_mul(1 << (failures - 1).min(20)).min(max);
            ceiling.mul_f64(rng.unit()).max(Duration::from_millis(1))
        }
        _ => names.refresh,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tulle_balance::{Health, Locality};

    fn names(hosts: &[&str], family: DnsFamily) -> Arc<DnsDiscovery> {
        let entry = |host: &&str| DnsEndpoint {
            address: match host.parse() {
                Ok(ip) => Address::Ip(SocketAddr::new(ip, 80)),
                Err(_) => Address::Name { host: (*host).into(), port: 80 },
            },
            hostname: (*host).into(),
            weight: 1,
            health: Health::Healthy,
            priority: 0,
            locality: Locality::default(),
            locality_weight: None,
            metadata: Arc::default(),
        };
        Arc::new(DnsDiscovery {
            endpoints: hosts.iter().map(entry).collect(),
            policy: EndpointSet { overprovisioning: 200, ..EndpointSet::default() },
            family,
            refresh: Duration::from_secs(5),
            failure_refresh: None,
            respect_ttl: false,
        })
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn shown(answers: &Answers) -> Vec<String> {
        let set = answers.endpoints();
        set.localities.iter().flat_map(|l| l.endpoints.iter().map(|e| e.address.to_string())).collect()
    }

    #[test]
    fn each_name_keeps_its_last_good_answer() {
        let mut answers = Answers::new(names(&["a", "b", "10.0.0.9"], DnsFamily::V4Only), Taken::All);
        answers.note(0, vec![at("10.0.0.2:80"), at("10.0.0.1:80"), at("[::1]:80")]);
        assert!(!answers.complete());
        answers.note(1, vec![]);
        assert!(answers.complete());
        assert_eq!(shown(&answers), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:80"]);
        answers.note(1, vec![at("10.0.1.1:80")]);
        answers.note(0, vec![]);
        assert_eq!(shown(&answers), ["10.0.0.1:80", "10.0.0.2:80", "10.0.1.1:80", "10.0.0.9:80"]);
        let set = answers.endpoints();
        assert_eq!((set.localities.len(), set.overprovisioning), (1, 200), "one place is one group");
    }

    #[test]
    fn a_logical_cluster_stays_where_it_is_while_it_can() {
        let mut answers = Answers::new(names(&["a"], DnsFamily::Auto), Taken::One);
        answers.note(0, vec![at("10.0.0.1:80"), at("10.0.0.2:80")]);
        answers.note(0, vec![at("10.0.0.2:80"), at("10.0.0.1:80")]);
        assert_eq!(shown(&answers), ["10.0.0.1:80"]);
        answers.note(0, vec![at("10.0.0.3:80"), at("10.0.0.2:80")]);
        assert_eq!(shown(&answers), ["10.0.0.3:80"]);
    }

    #[test]
    fn families_are_chosen_as_configured() {
        let both = || vec![at("10.0.0.1:80"), at("[::1]:80")];
        let v4 = || vec![at("10.0.0.1:80")];
        assert_eq!(of_family(both(), DnsFamily::Auto), [at("[::1]:80")]);
        assert_eq!(of_family(v4(), DnsFamily::Auto), v4());
        assert_eq!(of_family(both(), DnsFamily::V4Preferred), v4());
        assert_eq!(of_family(both(), DnsFamily::All), both());
        assert!(of_family(v4(), DnsFamily::V6Only).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn lookups_repeat_at_the_refresh_rate() {
        let start = tokio::time::Instant::now();
        let told = RefCell::new(Vec::new());
        let resolve = async |_: String, port: u16| match start.elapsed().as_secs() {
            5 => Err(io::Error::other("down")),
            _ => Ok(vec![SocketAddr::new([127, 0, 0, 1].into(), port)]),
        };
        let tell = |_, answer: Vec<SocketAddr>| told.borrow_mut().push((start.elapsed().as_secs(), answer.len()));
        let following = follow(names(&["a"], DnsFamily::Auto), 0, 1, resolve, tell);
        let _ended = tokio::time::timeout(Duration::from_secs(11), following).await;
        assert_eq!(*told.borrow(), [(0, 1), (5, 0), (10, 1)]);
    }

    #[tokio::test]
    async fn localhost_resolves() {
        let found = system("localhost".to_owned(), 81).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 81) && !found.is_empty());
    }
}

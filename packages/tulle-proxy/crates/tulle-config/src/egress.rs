//! Addresses that hosts outside the mesh must not turn out to have: those where callers count as local, and where clouds
//! hand out credentials. Looked at when a connection is made, so that no DNS answer leads there either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tulle_core::Cidr;

const V4: [(Ipv4Addr, u8); 6] = [
    // "This host", which most systems take for loopback.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local, where most clouds have their metadata.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // Metadata of Alibaba Cloud, Azure and, on older machines, Oracle.
    (Ipv4Addr::new(100, 100, 100, 200), 32),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(192, 0, 0, 192), 32),
];
const V6: [(Ipv6Addr, u8); 5] = [
    (Ipv6Addr::UNSPECIFIED, 128),
    (Ipv6Addr::LOCALHOST, 128),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    // Metadata of AWS and Google.
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128),
];
/// IPv4 behind a translator (RFC 6052): the last four bytes are the address that is meant.
const TRANSLATED: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// What a cluster of hosts outside the mesh may not reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressGuard {
    /// Granted by configuration although forbidden.
    pub allowed: Vec<Cidr>,
}

impl EgressGuard {
    /// Whether a connection to `address` is refused. `own` is where the control plane is: nobody's upstream.
    pub fn refuses(&self, address: SocketAddr, own: &[SocketAddr]) -> bool {
        let ip = meant(address.ip());
        own.iter().any(|at| at.port() == address.port() && at.ip().to_canonical() == ip)
            || (forbidden(ip) && !self.allowed.iter().any(|network| network.contains(ip)))
    }
}

fn meant(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if within(ip, IpAddr::V6(TRANSLATED.0), TRANSLATED.1) => {
            let [.., a, b, c, d] = v6.octets();
            IpAddr::from([a, b, c, d])
        }
        canonical => canonical,
    }
}

fn forbidden(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => V4.iter().any(|(network, bits)| within(ip, IpAddr::V4(*network), *bits)),
        IpAddr::V6(_) => V6.iter().any(|(network, bits)| within(ip, IpAddr::V6(*network), *bits)),
    }
}

fn within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    Cidr::new(network, bits).is_some_and(|network| network.contains(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 80)
    }

    #[test]
    fn local_and_metadata_addresses_are_refused_in_every_spelling() {
        let guard = EgressGuard::default();
        for text in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "::1",
            "::",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert!(guard.refuses(at(text), &[]), "{text}");
        }
        for text in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "2001:db8::1", "fd00:ec2::253", "64:ff9b::808:808"] {
            assert!(!guard.refuses(at(text), &[]), "{text}");
        }
    }

    #[test]
    fn grants_open_their_own_networks_only() {
        let allowed = Cidr::new("127.0.0.0".parse().unwrap(), 8).unwrap();
        let guard = EgressGuard { allowed: vec![allowed] };
        assert!(!guard.refuses(at("127.0.0.1"), &[]) && !guard.refuses(at("::ffff:127.0.0.1"), &[]));
        assert!(guard.refuses(at("::1"), &[]) && guard.refuses(at("169.254.169.254"), &[]));
    }

    #[test]
    fn the_control_plane_is_refused_whatever_is_granted() {
        let allowed = Cidr::new("127.0.0.0".parse().unwrap(), 8).unwrap();
        let guard = EgressGuard { allowed: vec![allowed] };
        let own = [SocketAddr::new("127.0.0.1".parse().unwrap(), 15012)];
        assert!(guard.refuses(own[0], &own) && guard.refuses("[::ffff:127.0.0.1]:15012".parse().unwrap(), &own));
        assert!(!guard.refuses(at("127.0.0.1"), &own));
    }
}

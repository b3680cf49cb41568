//! IP ranges, as filter chains and principals name them.

use std::fmt;
use std::net::IpAddr;

/// An IP prefix such as 10.0.0.0/8. Host bits of `address` are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Masks `address` to `prefix` bits; `None` when the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Cidr> {
        let address = match address {
            IpAddr::V4(v4) if prefix <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::from((u32::from(v4) & mask).to_be_bytes())
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::from((u128::from(v6) & mask).to_be_bytes())
            }
            _ => return None,
        };
        Some(Cidr { address, prefix })
    }

    /// Whether `ip` lies in this range. An IPv4-mapped IPv6 address counts as its IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        Cidr::new(ip.to_canonical(), self.prefix).is_some_and(|masked| masked.address == self.address)
    }

    /// The length of the prefix in bits: longer is more specific.
    pub fn prefix_len(&self) -> u8 {
        self.prefix
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::Cidr;

    #[test]
    fn a_range_holds_its_own_addresses_only() {
        let cases = [
            ("10.0.0.0", 8, "10.255.1.2", true),
            ("10.0.0.0", 8, "11.0.0.1", false),
            ("10.0.0.0", 8, "::ffff:10.1.2.3", true),
            ("0.0.0.0", 0, "192.0.2.1", true),
            ("127.0.0.1", 32, "127.0.0.1", true),
            ("127.0.0.1", 32, "127.0.0.2", false),
            ("fd00::", 8, "fd12::1", true),
            ("fd00::", 8, "10.0.0.1", false),
        ];
        for (network, prefix, ip, expected) in cases {
            let range = Cidr::new(network.parse().unwrap(), prefix).unwrap();
            assert_eq!(range.contains(ip.parse().unwrap()), expected, "{ip} in {range}");
        }
        assert!(Cidr::new("10.0.0.0".parse().unwrap(), 33).is_none());
    }
}

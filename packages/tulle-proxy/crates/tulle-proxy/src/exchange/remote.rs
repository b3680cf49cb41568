//! Who the client is when the connection comes from another proxy: what `x-forwarded-for` tells, as far as it is trusted.

use std::net::IpAddr;

use tulle_config::hcm::Forwarding;
use tulle_http::{Known, RequestHead};

/// The client's address by `x-forwarded-for`, in a head that was prepared; `None` where it is the connection's.
pub fn told(rules: &Forwarding, head: &RequestHead) -> Option<IpAddr> {
    let hops = rules.xff_num_trusted_hops as usize;
    if rules.use_remote_address && hops == 0 {
        return None;
    }
    // With `use_remote_address` the connection's address was appended already, unless that is switched off.
    let from_end = if rules.use_remote_address && rules.skip_xff_append { hops - 1 } else { hops };
    // Several lines are one list (RFC 9110 §5.3): a line more must not hide what a trusted hop said.
    let all = || head.headers.all_known(Known::XForwardedFor).flat_map(|line| line.split(|byte| *byte == b','));
    let address = all().nth(all().count().checked_sub(from_end + 1)?)?;
    std::str::from_utf8(address.trim_ascii()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tulle_config::hcm::{ForwardClientCert, ForwardClientCertMode};

    fn rules(use_remote_address: bool, skip_xff_append: bool, xff_num_trusted_hops: u32) -> Forwarding {
        let mode = ForwardClientCertMode::Sanitize;
        let client_cert = ForwardClientCert { mode, subject: false, cert: false, chain: false, dns: false, uri: false };
        Forwarding {
            use_remote_address,
            skip_xff_append,
            xff_num_trusted_hops,
            internal: Vec::new(),
            client_cert,
            via: None,
        }
    }

    #[test]
    fn only_trusted_hops_are_believed() {
        let mut head = RequestHead::default();
        head.headers.push(b"x-forwarded-for", b"192.0.2.1, 192.0.2.2,192.0.2.3");
        let table = [
            (rules(false, false, 0), Some("192.0.2.3")),
            (rules(false, false, 2), Some("192.0.2.1")),
            (rules(false, false, 3), None),
            (rules(true, false, 0), None),
            (rules(true, false, 1), Some("192.0.2.2")),
            (rules(true, true, 1), Some("192.0.2.3")),
        ];
        for (rules, expected) in table {
            assert_eq!(told(&rules, &head), expected.map(|ip| ip.parse().unwrap()), "{rules:?}");
        }
        assert_eq!(told(&rules(false, false, 0), &RequestHead::default()), None);
        head.headers.push(b"x-forwarded-for", b"192.0.2.4,192.0.2.5");
        for (hops, last) in [(0, 5), (1, 4), (2, 3), (4, 1)] {
            let expected = format!("192.0.2.{last}").parse().unwrap();
            assert_eq!(told(&rules(false, false, hops), &head), Some(expected), "in two lines, {hops}");
        }
        assert_eq!(told(&rules(false, false, 5), &head), None);
    }
}

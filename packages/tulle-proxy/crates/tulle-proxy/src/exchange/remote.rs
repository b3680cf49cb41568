//! Who the client is when the connection comes from another proxy: what `x-forwarded-for` tells, as far as it is trusted.

use std::net::IpAddr;

use tulle_config::hcm::{Detection, Forwarding, Xff};
use tulle_http::{Known, RequestHead};

/// What the connection manager's extensions find out about the client.
pub enum Detected {
    /// Nothing: it is whoever the connection comes from, whose address may have to be appended to x-forwarded-for.
    Nobody { append: bool },
    /// This address; whether it may count as internal, and whether the connection's own is appended to x-forwarded-for.
    Client { address: IpAddr, trusted: bool, append: bool },
    /// The request is answered with this status.
    Rejected(u16),
}

/// Asks each extension in turn.
pub fn detect(rules: &Forwarding, head: &RequestHead, peer: IpAddr) -> Detected {
    let mut appending = false;
    for detection in &rules.detection {
        match detection {
            Detection::Xff(xff) => {
                // Of a stranger nothing that it says is believed, but it is told of.
                appending = xff.append || !(xff.trusted.is_empty() || xff.trusts(peer));
                if let Some((address, trusted)) = by_xff(xff, head, peer) {
                    return Detected::Client { address, trusted, append: xff.append };
                }
            }
            Detection::Header(header) => {
                appending = false;
                let mut lines = head.headers.values(header.name.as_bytes());
                let text = match (lines.next(), lines.next()) {
                    (Some(text), None) => std::str::from_utf8(text).ok(),
                    _ => None,
                };
                if let Some(address) = text.and_then(|text| text.trim().parse().ok()) {
                    return Detected::Client { address, trusted: header.trusted, append: false };
                }
                if let Some(status) = header.reject {
                    return Detected::Rejected(status);
                }
            }
        }
    }
    Detected::Nobody { append: appending }
}

/// The address and whether it is the only one.
fn by_xff(xff: &Xff, head: &RequestHead, peer: IpAddr) -> Option<(IpAddr, bool)> {
    let all = || head.headers.all_known(Known::XForwardedFor).flat_map(|line| line.split(|byte| *byte == b','));
    let parse = |text: &[u8]| std::str::from_utf8(text.trim_ascii()).ok()?.parse::<IpAddr>().ok();
    let single = all().count() == 1;
    if xff.trusted.is_empty() {
        let place = all().count().checked_sub(xff.hops as usize + 1)?;
        return Some((parse(all().nth(place)?)?, single && xff.hops == 0));
    }
    if !xff.trusts(peer) {
        return None;
    }
    let texts: Vec<&[u8]> = all().collect();
    let mut last = None;
    for text in texts.into_iter().rev() {
        let address = parse(text)?;
        last = Some(address);
        if !xff.trusts(address) {
            break;
        }
    }
    last.map(|address| (address, single))
}

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
        let client_cert = ForwardClientCert {
            mode,
            subject: false,
            cert: false,
            chain: false,
            dns: false,
            uri: false,
            issuer: false,
        };
        Forwarding {
            use_remote_address,
            skip_xff_append,
            xff_num_trusted_hops,
            internal: Vec::new(),
            client_cert,
            via: None,
            port: false,
            detection: Box::default(),
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

//! SPIFFE identities and what a peer's certificate tells about its workload.

use std::fmt;
use std::str::FromStr;

use crate::Str;

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    pub trust_domain: Str,
    pub namespace: Str,
    pub service_account: Str,
}

/// Why a text is not one of the mesh's SPIFFE ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    #[error("not a spiffe:// URI")]
    Scheme,
    #[error("the trust domain is empty or has characters outside a-z 0-9 . - _")]
    TrustDomain,
    #[error("the path is not /ns/<namespace>/sa/<service account>")]
    Path,
    #[error("longer than 2048 bytes")]
    TooLong,
}

fn path_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(allowed)
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    /// Parses strictly (SPIFFE-ID §2: no query, fragment, port, percent-encoding, empty or dot segments).
    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > 2048 {
            return Err(SpiffeError::TooLong);
        }
        let rest = text.strip_prefix("spiffe://").ok_or(SpiffeError::Scheme)?;
        let (trust_domain, path) = rest.split_once('/').ok_or(SpiffeError::Path)?;
        let in_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if trust_domain.is_empty() || trust_domain.len() > 255 || !trust_domain.bytes().all(in_domain) {
            return Err(SpiffeError::TrustDomain);
        }
        let mut parts = path.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("ns"), Some(namespace), Some("sa"), Some(account), None)
                if path_segment(namespace) && path_segment(account) =>
            {
                Ok(SpiffeId {
                    trust_domain: trust_domain.into(),
                    namespace: namespace.into(),
                    service_account: account.into(),
                })
            }
            _ => Err(SpiffeError::Path),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

/// Who is at the other end of a connection, read once from its certificate.
///
/// The workload's name, app and version labels come from the subject (CN, OU, dnQualifier); they serve telemetry
/// only. Authorization looks at `spiffe` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    pub spiffe: Option<SpiffeId>,
    pub workload: Option<Str>,
    pub app: Option<Str>,
    pub version: Option<Str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mesh_ids_round_trip() {
        let text = "spiffe://cluster.local/ns/default/sa/backend";
        assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
    }

    #[test]
    fn anything_ambiguous_is_refused() {
        for text in [
            "",
            "https://cluster.local/ns/a/sa/b",
            "SPIFFE://cluster.local/ns/a/sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://Cluster.local/ns/a/sa/b",
            "spiffe://cluster.local:80/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/b/",
            "spiffe://cluster.local/ns/a/sa/b?x",
            "spiffe://cluster.local/ns//sa/b",
            "spiffe://cluster.local/ns/../sa/b",
            "spiffe://cluster.local/ns/a/sa/b%2f",
            "spiffe://cluster.local/ns/a",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text} was accepted");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_parses_prints_as_it_was(
            text in "spiffe://[a-zA-Z0-9._/:?#%-]{0,12}/(ns|NS)/[a-z0-9._/%-]{0,6}/(sa|x)/[a-zA-Z0-9._/-]{0,6}",
        ) {
            if let Ok(id) = text.parse::<SpiffeId>() {
                proptest::prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}

//! A certificate that one side of a connection presented, and what logs say of it: read when a log first asks.

use std::cell::OnceCell;
use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use tulle_core::UnixNanos;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::peer;

/// One certificate. Connections share it.
#[derive(Debug)]
pub struct Presented {
    der: CertificateDer<'static>,
    text: OnceCell<CertificateText>,
}

/// What logs say of a certificate; empty where it says nothing readable. Lists are joined by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateText {
    /// As RFC 2253 writes them.
    pub subject: String,
    pub issuer: String,
    /// In hex.
    pub serial: String,
    pub uris: String,
    pub dns: String,
    /// The same, name by name.
    pub each_uri: Box<[String]>,
    pub each_dns: Box<[String]>,
    pub ips: String,
    pub emails: String,
    pub sha1: String,
    pub sha256: String,
    /// In PEM, and that escaped as in a URL.
    pub pem: String,
    /// From when until when it is valid.
    pub from: Option<UnixNanos>,
    pub until: Option<UnixNanos>,
}

impl Presented {
    pub fn new(der: &CertificateDer<'_>) -> Presented {
        Presented { der: der.clone().into_owned(), text: OnceCell::new() }
    }

    pub fn text(&self) -> &CertificateText {
        self.text.get_or_init(|| read(&self.der))
    }
}

fn read(der: &CertificateDer<'_>) -> CertificateText {
    let names = peer::names(der).unwrap_or_default();
    let ips: Vec<String> = names.ips.iter().map(ToString::to_string).collect();
    let valid = X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate.validity().clone());
    let time =
        |seconds: i64| u64::try_from(seconds).ok().map(|seconds| UnixNanos(seconds.saturating_mul(1_000_000_000)));
    CertificateText {
        subject: peer::subject(der),
        issuer: peer::issuer(der),
        serial: hex(number(&peer::serial(der))),
        uris: names.uris.join(","),
        dns: names.dns.join(","),
        each_uri: names.uris.into(),
        each_dns: names.dns.into(),
        ips: ips.join(","),
        emails: names.emails.join(","),
        sha1: hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()),
        sha256: hex(digest(&SHA256, der).as_ref()),
        pem: escaped_pem(der),
        from: valid.as_ref().and_then(|valid| time(valid.not_before.timestamp())),
        until: valid.as_ref().and_then(|valid| time(valid.not_after.timestamp())),
    }
}

/// Without the zero that keeps a large number positive in DER.
fn number(serial: &[u8]) -> &[u8] {
    match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        whole => whole,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// PEM (RFC 7468), with what has a meaning in a URL escaped.
fn escaped_pem(der: &[u8]) -> String {
    const LINE: usize = 64;
    let encoded = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(LINE) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    let mut escaped = String::with_capacity(pem.len() * 5 / 4);
    for c in pem.chars() {
        match c {
            ' ' | '\n' | '+' | '/' | '=' => {
                let _ = write!(escaped, "%{:02X}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_read_when_it_is_asked_for() {
        let mut params = rcgen::CertificateParams::new(["a.test".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from(0xf102_u64));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "a, b");
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2026, 1, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let presented = Presented::new(made.der());
        let text = presented.text();
        assert_eq!((&*text.subject, &*text.issuer, &*text.serial), ("CN=a\\, b", "CN=a\\, b", "f102"));
        assert_eq!((&*text.dns, &*text.ips, &*text.uris), ("a.test", "10.0.0.1", ""));
        assert_eq!((text.sha1.len(), text.sha256.len()), (40, 64));
        assert_eq!(text.until.unwrap().0 - text.from.unwrap().0, 86_400 * 1_000_000_000);
        assert!(text.pem.starts_with("-----BEGIN%20CERTIFICATE-----%0AMII"), "{}", text.pem);
        assert!(!text.pem.contains(['\n', ' ', '+', '/', '=']) && text.pem.ends_with("END%20CERTIFICATE-----%0A"));
        let rubbish = CertificateDer::from(vec![1, 2, 3]);
        assert_eq!((&*Presented::new(&rubbish).text().subject, Presented::new(&rubbish).text().from), ("", None));
    }
}

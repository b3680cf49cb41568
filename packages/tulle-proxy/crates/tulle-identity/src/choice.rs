//! Which of several certificates a server shows: the one for the name that the client asks for, as far as it can read it.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::peer;

/// Certificates in the order in which they were configured.
#[derive(Debug)]
pub struct Choice(Vec<Offer>);

#[derive(Debug)]
struct Offer {
    /// In lower case.
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

impl Choice {
    /// # Errors
    /// When a key does not fit its certificate.
    pub fn new(
        all: Vec<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        provider: &CryptoProvider,
    ) -> Result<Choice, rustls::Error> {
        let offer = |(chain, key): (Vec<CertificateDer<'static>>, _)| {
            let names = chain.first().and_then(|leaf| peer::names(leaf).ok()).unwrap_or_default().dns;
            let key = Arc::new(CertifiedKey::from_der(chain, key, provider)?);
            Ok(Offer { names: names.iter().map(|name| name.to_ascii_lowercase()).collect(), key })
        };
        all.into_iter().map(offer).collect::<Result<_, rustls::Error>>().map(Choice)
    }

    /// By the exact name, else by a wildcard for it, else the first; `can` says which of them the client can read.
    fn pick(&self, name: Option<&str>, can: impl Fn(&CertifiedKey) -> bool) -> Option<&Offer> {
        let readable = || self.0.iter().filter(|offer| can(&offer.key));
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let wild = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        readable()
            .find(|offer| offer.names.contains(&name))
            .or_else(|| readable().find(|offer| wild.as_ref().is_some_and(|wild| offer.names.contains(wild))))
            .or_else(|| readable().next())
            .or(self.0.first())
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let picked = self.pick(hello.server_name(), |key| key.key.choose_scheme(schemes).is_some());
        picked.map(|offer| offer.key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(names: &[&[&str]]) -> Choice {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let made = names.iter().map(|names| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let made = rcgen::generate_simple_self_signed(names).unwrap();
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            (vec![made.cert.der().clone()], key)
        });
        Choice::new(made.collect(), &provider).unwrap()
    }

    #[test]
    fn the_name_decides_and_else_the_order() {
        let choice = offers(&[&["first.test"], &["*.b.test"], &["x.b.test", "y.test"]]);
        let picked = |name| choice.pick(name, |_| true).unwrap().names[0].clone();
        for (name, wanted) in [
            (None, "first.test"),
            (Some("unknown.test"), "first.test"),
            (Some("Z.B.test"), "*.b.test"),
            (Some("x.b.test"), "x.b.test"),
            (Some("y.test"), "x.b.test"),
            (Some("a.x.b.test"), "first.test"),
        ] {
            assert_eq!(picked(name), wanted, "{name:?}");
        }
    }

    #[test]
    fn what_the_client_cannot_read_is_shown_only_for_want_of_another() {
        let choice = offers(&[&["a.test"], &["b.test"]]);
        let first = choice.0[0].key.clone();
        let not_first = |key: &CertifiedKey| !std::ptr::eq(key, &*first);
        assert_eq!(choice.pick(Some("a.test"), not_first).unwrap().names, ["b.test"]);
        assert_eq!(choice.pick(Some("b.test"), |_| false).unwrap().names, ["a.test"]);
    }
}

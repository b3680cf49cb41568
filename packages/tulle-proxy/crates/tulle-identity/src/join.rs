//! Keeps this process's identity alive: joins by token once, renews by certificate at half-life, remembers on disk.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use tulle_core::Rng;

use crate::attest::{AttestError, Attestation};
use crate::bundle::{self, Bundle, BundleError};
use crate::ca::{self, Authority, CaError, Proof};
use crate::clock::CLOCK;
use crate::material::IdentityCell;
use crate::state::{self, Credential, StateError, Validity};
use crate::trust::TrustStream;

/// Where identity comes from; the content of `--identity`.
#[derive(Clone, Debug)]
pub struct JoinConfig {
    /// host:port that takes join tokens (server TLS only).
    pub join_address: String,
    /// host:port that takes certificates (mutual TLS).
    pub renew_address: String,
    pub server_name: String,
    pub trust_anchor_file: PathBuf,
    pub token: TokenSource,
    pub state_directory: PathBuf,
}

/// Where the one-time token for the first certificate comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    File(PathBuf),
    Attested(Attestation),
}

impl TokenSource {
    async fn get(&self) -> Result<String, JoinError> {
        match self {
            TokenSource::File(path) => Ok(read(path)?.trim().to_owned()),
            TokenSource::Attested(attestation) => Ok(attestation.token().await?),
        }
    }
}

fn read(path: &PathBuf) -> Result<String, JoinError> {
    std::fs::read_to_string(path).map_err(|error| JoinError::Read(path.clone(), error))
}

/// Why there is no (new) identity at the moment.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Attest(#[from] AttestError),
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the trust bundle is unusable: {0}")]
    Bundle(#[from] BundleError),
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("cannot make a key or certificate request: {0}")]
    Request(#[from] rcgen::Error),
    #[error("the certificate issued does not belong to the key: {0}")]
    Mismatch(rustls::Error),
}

/// What happened to the identity, for the log. Holds nothing secret.
#[derive(Debug)]
pub enum Event {
    Restored(Validity),
    Issued(Validity),
    /// Tried again after the duration given.
    Failed(JoinError, Duration),
    /// The alarm: renewal is due and fails, and the certificate held ends in so many seconds, or has ended.
    Ending(i64),
    /// The identity works but could not be kept on disk.
    NotKept(StateError),
    /// The authority pushed other roots or revocations.
    Trust,
    /// It does not tell at the moment; tried again after the duration given.
    TrustUnknown(CaError, Duration),
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = |validity: &Validity| (validity.until - validity.from) / 60;
        match self {
            Event::Restored(validity) => {
                write!(out, "the certificate kept on disk is used (life {} min)", minutes(validity))
            }
            Event::Issued(validity) => write!(out, "a certificate was issued (life {} min)", minutes(validity)),
            Event::Failed(error, Duration::ZERO) => write!(out, "what is kept on disk is not used: {error}"),
            Event::Failed(error, pause) => write!(out, "{error}; again in {pause:.1?}"),
            Event::Ending(left @ 1..) => {
                write!(out, "the certificate held ends in {left} s: new connections are refused then")
            }
            Event::Ending(left) => {
                write!(out, "the certificate held has ended {} s ago: new connections are refused", -left)
            }
            Event::NotKept(error) => write!(out, "the certificate could not be kept on disk: {error}"),
            Event::Trust => write!(out, "the authority's roots or revocations changed"),
            Event::TrustUnknown(error, pause) => {
                write!(out, "roots and revocations as before: {error}; again in {pause:.1?}")
            }
        }
    }
}

impl Event {
    /// Whether somebody must look after it before it is too late.
    pub fn is_alarm(&self) -> bool {
        matches!(self, Event::Ending(_))
    }

    /// Whether it went as it should.
    pub fn is_good(&self) -> bool {
        matches!(self, Event::Restored(_) | Event::Issued(_) | Event::Trust)
    }
}

const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// A rotation waits for everybody, so nobody waits long to hear of it.
const LAST_TRUST_RETRY: Duration = Duration::from_secs(5);

/// Runs until dropped: puts each new identity into `cell`, tells `report` what happens. `seed` spreads renewals.
pub async fn keep_identity(config: JoinConfig, cell: Arc<IdentityCell>, seed: u64, report: impl Fn(Event)) {
    let mut rng = Rng::seeded(seed);
    let mut current = restore(&config, &cell, &report);
    let mut failures = 0;
    // How often in a row the authority has asked for a renewal: pauses grow when renewing does not help.
    let mut prompted = 0;
    loop {
        if let Some(held) = &mut current
            && failures == 0
        {
            let due = tokio::time::sleep(until_renewal(held.1, now(), &mut rng));
            let mut follower = Follower { config: &config, cell: &cell, report: &report, prompted: &mut prompted };
            tokio::select! {
                () = due => {}
                () = follower.until_outdated(held, Rng::seeded(rng.next_u64())) => {}
            }
        }
        match obtain(&config, current.as_ref(), &cell).await {
            Ok((credential, validity)) => {
                failures = 0;
                report(Event::Issued(validity));
                if let Err(error) = state::save(&config.state_directory, &credential) {
                    report(Event::NotKept(error));
                }
                current = Some((credential, validity));
            }
            Err(error) => {
                let pause = retry_pause(failures, &mut rng).min(longest_pause(current.as_ref()));
                failures += 1;
                report(Event::Failed(error, pause));
                if let Some((_, validity)) = &current {
                    report(Event::Ending(validity.until - now()));
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Seconds since 1970; as if the clock had not jumped, where it just has.
fn now() -> i64 {
    let (system, before) = CLOCK.now();
    i64::try_from(before.unwrap_or(system)).unwrap_or(i64::MAX)
}

/// The identity kept on disk, when it is whole and still valid.
fn restore(config: &JoinConfig, cell: &IdentityCell, report: &impl Fn(Event)) -> Option<(Credential, Validity)> {
    let found = state::load(&config.state_directory).and_then(|stored| match stored {
        None => Ok(None),
        Some(credential) => credential.parse().map(|(identity, validity)| Some((credential, identity, validity))),
    });
    let (credential, identity, validity) = match found {
        Ok(found) => found.filter(|(_, _, validity)| validity.until > now())?,
        Err(error) => {
            report(Event::Failed(error.into(), Duration::ZERO));
            return None;
        }
    };
    if let Err(error) = fits(&identity) {
        report(Event::Failed(error, Duration::ZERO));
        return None;
    }
    cell.set(identity);
    report(Event::Restored(validity));
    Some((credential, validity))
}

/// Whether the key belongs to the certificate.
fn fits(identity: &crate::Identity) -> Result<(), JoinError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    rustls::sign::CertifiedKey::from_der(identity.chain.clone(), identity.key.clone_key(), &provider)
        .map(drop)
        .map_err(JoinError::Mismatch)
}

async fn obtain(
    config: &JoinConfig,
    current: Option<&(Credential, Validity)>,
    cell: &IdentityCell,
) -> Result<(Credential, Validity), JoinError> {
    // An expired certificate proves nothing any more: only a new token helps then.
    let valid = current.filter(|(_, validity)| validity.until > now());
    let (address, trust_anchors, proof) = match valid {
        Some((credential, _)) => {
            let proof = Proof::Certificate { chain: credential.issued.chain.clone(), key: credential.key.clone() };
            (&config.renew_address, credential.issued.roots.clone(), proof)
        }
        None => {
            let token = config.token.get().await?;
            (&config.join_address, read(&config.trust_anchor_file)?, Proof::Token(token))
        }
    };
    let authority = Authority { address: address.clone(), server_name: config.server_name.clone(), trust_anchors };
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
    let issued = ca::create_certificate(&authority, proof, csr).await?;
    let (revoked, federated) =
        current.map(|(credential, _)| (credential.revoked.clone(), credential.federated.clone())).unwrap_or_default();
    let credential = Credential { issued, revoked, federated, key: key.serialize_pem(), obtained: now() };
    let (identity, validity) = credential.parse()?;
    fits(&identity)?;
    cell.set(identity);
    Ok((credential, validity))
}

/// Keeps up with what the authority pushes while an identity is held.
struct Follower<'a, R> {
    config: &'a JoinConfig,
    cell: &'a IdentityCell,
    report: &'a R,
    prompted: &'a mut u32,
}

impl<R: Fn(Event)> Follower<'_, R> {
    /// Returns when another certificate is needed, because another root signs now. May be dropped at any time.
    async fn until_outdated(&mut self, held: &mut (Credential, Validity), mut rng: Rng) {
        let mut failures = 0;
        loop {
            match self.follow(held, &mut failures).await {
                Ok(()) => {
                    let pause = retry_pause(*self.prompted, &mut rng);
                    *self.prompted += 1;
                    return tokio::time::sleep(pause).await;
                }
                Err(error) => {
                    let pause = retry_pause(failures, &mut rng).min(LAST_TRUST_RETRY);
                    failures += 1;
                    (self.report)(Event::TrustUnknown(error, pause));
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn follow(&mut self, held: &mut (Credential, Validity), failures: &mut u32) -> Result<(), CaError> {
        let authority = Authority {
            address: self.config.renew_address.clone(),
            server_name: self.config.server_name.clone(),
            trust_anchors: held.0.issued.roots.clone(),
        };
        let proof = Proof::Certificate { chain: held.0.issued.chain.clone(), key: held.0.key.clone() };
        let mut stream = TrustStream::open(&authority, proof, "identity".to_owned()).await?;
        loop {
            let pushed = stream.next().await?;
            *failures = 0;
            match self.take(held, &pushed.bundle) {
                Ok(true) => {
                    stream.answer(pushed.nonce, None);
                    *self.prompted = 0;
                }
                // The stream of the next certificate will acknowledge.
                Ok(false) => return Ok(()),
                Err(error) => stream.answer(pushed.nonce, Some(error.to_string())),
            }
        }
    }

    /// Puts a bundle in force; whether the certificate held is under the root that signs.
    fn take(&self, held: &mut (Credential, Validity), bundle: &Bundle) -> Result<bool, JoinError> {
        bundle::roots(&bundle.roots)?;
        let mut next = held.0.clone();
        next.issued.roots = bundle.roots.clone();
        next.revoked = bundle.lists.clone();
        next.federated = bundle.federated.clone();
        bundle::Revocations::parse(&next.revoked)?;
        let (identity, _) = next.parse()?;
        let current = bundle::is_current(&identity);
        if next != held.0 {
            self.cell.set(identity);
            (self.report)(Event::Trust);
            if let Err(error) = state::save(&self.config.state_directory, &next) {
                (self.report)(Event::NotKept(error));
            }
            held.0 = next;
        }
        Ok(current)
    }
}

/// Half of the certificate's life, give or take a tenth of it, counted from its start.
fn until_renewal(validity: Validity, now: i64, rng: &mut Rng) -> Duration {
    let life = (validity.until - validity.from).max(0) as f64;
    let at = validity.from as f64 + life * (0.45 + 0.1 * rng.unit());
    Duration::from_secs_f64((at - now as f64).max(0.0))
}

/// A tenth of what is left when renewals begin, so that certificates that live short are not slept through.
fn longest_pause(current: Option<&(Credential, Validity)>) -> Duration {
    let life = current.map_or(i64::MAX, |(_, validity)| validity.until - validity.from);
    Duration::from_secs(u64::try_from(life / 20).unwrap_or_default()).max(FIRST_RETRY)
}

/// Doubling from the first pause to the last, with full jitter above half (so that a herd spreads).
fn retry_pause(failures: u32, rng: &mut Rng) -> Duration {
    let ceiling = FIRST_RETRY.saturating_mul(1 << failures.min(16)).min(LAST_RETRY);
    ceiling.mul_f64(0.5 + 0.5 * rng.unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_falls_around_half_life() {
        let validity = Validity { from: 1_000, until: 11_000 };
        for seed in 0..200 {
            let wait = until_renewal(validity, 1_000, &mut Rng::seeded(seed)).as_secs();
            assert!((4_500..=5_500).contains(&wait), "{wait}");
        }
        assert_eq!(until_renewal(validity, 9_000, &mut Rng::seeded(1)), Duration::ZERO);
    }

    #[test]
    fn the_alarm_says_how_long_there_is() {
        let ahead = Event::Ending(90);
        assert!(ahead.is_alarm() && !ahead.is_good());
        assert!(ahead.to_string().contains("ends in 90 s"), "{ahead}");
        let late = Event::Ending(-5).to_string();
        assert!(late.contains("ended 5 s ago"), "{late}");
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let mut rng = Rng::seeded(7);
        assert!(retry_pause(0, &mut rng) <= FIRST_RETRY);
        for failures in [10, 40, u32::MAX] {
            let pause = retry_pause(failures, &mut rng);
            assert!(pause >= LAST_RETRY / 2 && pause <= LAST_RETRY, "{pause:?}");
        }
    }
}

//! Asks a request for the tokens that a requirement wants.

use std::sync::Arc;
use std::time::Duration;

use tulle_core::RequestView;

use crate::cache::{Accepted, Cache};
use crate::claims::Registered;
use crate::failure::Failure;
use crate::jwks::Jwks;
use crate::locate::{Located, Place, Places};
use crate::provider::{Audiences, Lifetime, Provider};
use crate::requirement::Requirement;
use crate::token::Token;

/// The keys of a provider, now.
#[derive(Clone, Debug)]
pub enum KeyState {
    Ready(Arc<Jwks>),
    /// They are being fetched for the first time.
    Pending,
    /// They could not be fetched, and older ones are no longer good.
    Unavailable,
}

/// Where keys are known.
pub trait Keys {
    fn of(&self, provider: &Provider) -> KeyState;
}

/// A token that was good: whose, and where it stood.
#[derive(Clone, Debug)]
pub struct Good {
    pub provider: Arc<Provider>,
    pub place: Place,
    pub accepted: Arc<Accepted>,
}

/// One request being asked.
pub struct Check<'c, R: ?Sized> {
    pub request: &'c R,
    pub keys: &'c dyn Keys,
    pub cache: &'c mut Cache,
    /// Seconds since 1970.
    pub now: u64,
}

impl<R: RequestView + ?Sized> Check<'_, R> {
    /// The tokens that fulfil the requirement. Nothing of a token that is not good is ever among them.
    ///
    /// # Errors
    /// What is wrong. `KeysPending` says nothing of the request yet.
    pub fn ask(&mut self, requirement: &Requirement) -> Result<Vec<Good>, Failure> {
        match requirement {
            Requirement::Nothing => Ok(Vec::new()),
            Requirement::Provider { provider, audiences, places } => {
                let audiences = audiences.as_ref().unwrap_or(&provider.audiences);
                self.every(places, |_| Some((provider.clone(), audiences.clone())))
            }
            Requirement::All(all) => {
                let mut good = Vec::new();
                for each in all {
                    good.extend(self.ask(each)?);
                }
                Ok(good)
            }
            Requirement::Any(any) => self.any(any),
            Requirement::Optional { providers, places } => {
                match self.every(places, |issuer| by_issuer(providers, issuer)) {
                    Err(Failure::Missing) => Ok(Vec::new()),
                    found => found,
                }
            }
            Requirement::Indifferent { providers, places } => {
                let mut good = Vec::new();
                for located in places.tokens(self.request) {
                    let found = self.one(places, &located, |issuer| by_issuer(providers, issuer));
                    match found {
                        Err(Failure::KeysPending) => return Err(Failure::KeysPending),
                        found => good.extend(found),
                    }
                }
                Ok(good)
            }
        }
    }

    /// The first alternative that holds; else the most telling of what is wrong.
    fn any(&mut self, any: &[Requirement]) -> Result<Vec<Good>, Failure> {
        let mut worst: Option<Failure> = None;
        for each in any {
            match self.ask(each) {
                Ok(good) => return Ok(good),
                Err(Failure::KeysPending) => return Err(Failure::KeysPending),
                Err(failure) if worst.is_none_or(|known| known.tells() <= failure.tells()) => worst = Some(failure),
                Err(_) => {}
            }
        }
        worst.map_or(Ok(Vec::new()), Err)
    }

    /// All tokens in these places must be good, and there must be one: an upstream might read any of them.
    fn every(&mut self, places: &Places, whose: impl Fn(&str) -> Option<Asked>) -> Result<Vec<Good>, Failure> {
        let tokens = places.tokens(self.request);
        if tokens.is_empty() {
            return Err(Failure::Missing);
        }
        // Envoy begins with what it found last.
        tokens.iter().rev().map(|located| self.one(places, located, &whose)).collect()
    }

    fn one(
        &mut self,
        places: &Places,
        located: &Located<'_>,
        whose: impl Fn(&str) -> Option<Asked>,
    ) -> Result<Good, Failure> {
        let token = Token::parse(&located.text)?;
        let issuer = token.registered.issuer.clone();
        if !places.believes(located, &issuer) {
            return Err(Failure::UnknownIssuer);
        }
        let (provider, audiences) = whose(&issuer).ok_or(Failure::UnknownIssuer)?;
        in_time(&provider, &token.registered, self.now)?;
        if !audiences.allow(&token.registered.audiences) {
            return Err(Failure::AudienceNotAllowed);
        }
        let accepted = self.verified(&provider, &located.text, token)?;
        Ok(Good { provider, place: located.place.clone(), accepted })
    }

    fn verified(&mut self, provider: &Arc<Provider>, text: &str, token: Token<'_>) -> Result<Arc<Accepted>, Failure> {
        let keys = match self.keys.of(provider) {
            KeyState::Ready(keys) => keys,
            KeyState::Pending => return Err(Failure::KeysPending),
            KeyState::Unavailable => return Err(Failure::KeysUnavailable),
        };
        if let Some(accepted) = self.cache.get(provider, &keys, text) {
            return Ok(accepted);
        }
        keys.verify(&token)?;
        let accepted = Arc::new(Accepted::new(provider, token));
        self.cache.insert(provider, &keys, text, &accepted);
        Ok(accepted)
    }
}

type Asked = (Arc<Provider>, Audiences);

/// The first provider that names the issuer, else the first that believes any.
fn by_issuer(providers: &[Arc<Provider>], issuer: &str) -> Option<Asked> {
    let named = providers.iter().find(|each| each.issuer.as_deref() == Some(issuer));
    let found = named.or_else(|| providers.iter().find(|each| each.issuer.is_none()))?;
    Some((found.clone(), found.audiences.clone()))
}

/// Not before its time and not after it, by the provider's rules.
fn in_time(provider: &Provider, registered: &Registered, now: u64) -> Result<(), Failure> {
    let skew = provider.clock_skew.as_secs();
    if now.saturating_add(skew) < registered.not_before {
        return Err(Failure::NotYetValid);
    }
    if registered.expires.is_some_and(|expires| now > expires.saturating_add(skew)) {
        return Err(Failure::Expired);
    }
    if let Some(subjects) = &provider.subjects
        && !subjects.matches(registered.subject.as_bytes())
    {
        return Err(Failure::Verification);
    }
    let left = registered.expires.map(|expires| Duration::from_secs(expires.saturating_sub(now)));
    match (provider.lifetime, left) {
        (Lifetime::Any, _) | (Lifetime::Limited, Some(_)) => Ok(()),
        (Lifetime::LessThan(longest), Some(left)) if left < longest => Ok(()),
        _ => Err(Failure::Verification),
    }
}

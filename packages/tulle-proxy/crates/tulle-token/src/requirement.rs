//! What a request must show (`JwtRequirement`), with its providers found and the places where to look.

use std::collections::BTreeMap;
use std::sync::Arc;

use tulle_core::Str;

use crate::locate::Places;
use crate::provider::{Audiences, Provider};

/// A requirement as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    Nothing,
    Provider { name: Str, audiences: Option<Audiences> },
    Any(Vec<Wanted>),
    All(Vec<Wanted>),
    AllowMissing,
    AllowMissingOrFailed,
}

/// A requirement ready to be asked.
#[derive(Debug)]
pub enum Requirement {
    Nothing,
    /// A good token of this provider.
    Provider {
        provider: Arc<Provider>,
        audiences: Option<Audiences>,
        places: Places,
    },
    Any(Box<[Requirement]>),
    All(Box<[Requirement]>),
    /// Whatever token is there must be good.
    Optional {
        providers: Box<[Arc<Provider>]>,
        places: Places,
    },
    /// Good tokens are used, others are as if they were not there.
    Indifferent {
        providers: Box<[Arc<Provider>]>,
        places: Places,
    },
}

/// A requirement names a provider that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider {0:?} is not configured")]
pub struct UnknownProvider(pub String);

pub type Providers = BTreeMap<Str, Arc<Provider>>;

impl Requirement {
    /// # Errors
    /// A provider that is not among `providers`.
    pub fn new(wanted: &Wanted, providers: &Providers) -> Result<Requirement, UnknownProvider> {
        Self::within(wanted, providers, &[])
    }

    /// `siblings`: the providers beside a bypass, in whose places alone it looks for tokens.
    fn within(wanted: &Wanted, providers: &Providers, siblings: &[Arc<Provider>]) -> Result<Self, UnknownProvider> {
        let find = |name: &Str| providers.get(name).cloned().ok_or_else(|| UnknownProvider(name.to_string()));
        let bypassing = || -> Box<[Arc<Provider>]> {
            if siblings.is_empty() { providers.values().cloned().collect() } else { siblings.into() }
        };
        Ok(match wanted {
            Wanted::Nothing => Requirement::Nothing,
            Wanted::Provider { name, audiences } => {
                let provider = find(name)?;
                let places = Places::of(std::slice::from_ref(&provider));
                Requirement::Provider { provider, audiences: audiences.clone(), places }
            }
            Wanted::All(all) => {
                let made = all.iter().map(|each| Self::within(each, providers, &[]));
                Requirement::All(made.collect::<Result<_, _>>()?)
            }
            Wanted::Any(any) => {
                let named = any.iter().filter_map(|each| match each {
                    Wanted::Provider { name, .. } => Some(find(name)),
                    _ => None,
                });
                let siblings: Vec<_> = named.collect::<Result<_, _>>()?;
                let mut made = Vec::with_capacity(any.len());
                for each in any.iter().filter(|each| !each.is_bypass()) {
                    made.push(Self::within(each, providers, &[])?);
                }
                if let Some(bypass) = widest_bypass(any) {
                    made.push(Self::within(bypass, providers, &siblings)?);
                }
                Requirement::Any(made.into())
            }
            Wanted::AllowMissing => {
                let providers = bypassing();
                Requirement::Optional { places: Places::of(&providers), providers }
            }
            Wanted::AllowMissingOrFailed => {
                let providers = bypassing();
                Requirement::Indifferent { places: Places::of(&providers), providers }
            }
        })
    }
}

impl Wanted {
    fn is_bypass(&self) -> bool {
        matches!(self, Wanted::AllowMissing | Wanted::AllowMissingOrFailed)
    }
}

fn widest_bypass(any: &[Wanted]) -> Option<&Wanted> {
    any.iter()
        .find(|each| **each == Wanted::AllowMissingOrFailed)
        .or_else(|| any.iter().find(|each| **each == Wanted::AllowMissing))
}

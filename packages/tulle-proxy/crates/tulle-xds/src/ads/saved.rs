//! The accepted resources as bytes, to be kept on disk, and back.
//!
//! The bytes are one `DeltaDiscoveryResponse` with the resources of all types. Bodies are not held in memory for it (a
//! mesh has many endpoints, and some secrets): those that came since the last time are, and the others are taken from
//! what was written then. Every body is checked against the hash of what is in force.

use std::collections::HashMap;

use envoy_types::pb::envoy::service::discovery::v3 as ads_pb;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use super::references::Reference;
use crate::decode::{Kind, type_name};

/// Collects what is to be written.
#[derive(Default)]
pub struct Recorder {
    /// Bodies accepted since the last [`Recorder::take`]; `None` when nothing is kept.
    fresh: Option<HashMap<Reference, Any>>,
    /// Whether anything has changed since then.
    dirty: bool,
}

impl Recorder {
    /// Begins to record.
    pub fn start(&mut self) {
        self.fresh.get_or_insert_default();
    }

    /// A resource was accepted.
    pub fn record(&mut self, reference: Reference, body: Any) {
        if let Some(fresh) = &mut self.fresh {
            fresh.insert(reference, body);
            self.dirty = true;
        }
    }

    /// A resource went.
    pub fn touch(&mut self) {
        self.dirty = true;
    }

    /// What is to be written, once after each change; `in_force` gives the version and hash of everything.
    pub fn take<'a>(&mut self, in_force: impl Iterator<Item = (&'a Reference, &'a str, u64)>) -> Option<Unsaved> {
        let recorded = self.fresh.as_mut().filter(|_| self.dirty)?;
        self.dirty = false;
        let mut recorded = std::mem::take(recorded);
        let mut unsaved = Unsaved { resources: Vec::new(), fresh: HashMap::new() };
        for (reference, version, hash) in in_force {
            if let Some(entry) = recorded.remove_entry(reference) {
                unsaved.fresh.extend([entry]);
            }
            unsaved.resources.push(Kept { reference: reference.clone(), version: version.to_owned(), hash });
        }
        Some(unsaved)
    }

    /// Takes back what could not be written.
    pub fn put_back(&mut self, unsaved: Unsaved) {
        let Some(fresh) = &mut self.fresh else { return };
        for (reference, body) in unsaved.fresh {
            fresh.entry(reference).or_insert(body);
        }
        self.dirty = true;
    }
}

/// What is to be written.
pub struct Unsaved {
    /// Everything in force.
    resources: Vec<Kept>,
    /// The bodies that what was written before does not hold.
    fresh: HashMap<Reference, Any>,
}

struct Kept {
    reference: Reference,
    version: String,
    hash: u64,
}

/// What was written before is gone or another: without it this resource cannot be written again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {0} {1:?} is no longer in what was written before")]
pub struct Lost(pub &'static str, pub String);

impl Unsaved {
    /// Whether what was written before is needed for [`Unsaved::encode`].
    pub fn needs_before(&self) -> bool {
        self.resources.iter().any(|kept| !self.fresh.contains_key(&kept.reference))
    }

    /// The bytes to write, given those written before.
    ///
    /// # Errors
    /// [`Lost`]: everything has to be asked for again.
    pub fn encode(&self, before: Option<&[u8]>) -> Result<Vec<u8>, Lost> {
        let before = before.and_then(|bytes| decode(bytes).ok()).unwrap_or_default();
        let mut before: HashMap<(Kind, String), Any> =
            before.into_iter().map(|(kind, name, _, body)| ((kind, name), body)).collect();
        let mut resources = Vec::with_capacity(self.resources.len());
        for kept in &self.resources {
            let (kind, name) = &kept.reference;
            let old = || before.remove(&(*kind, name.to_string())).filter(|body| hash(body) == kept.hash);
            let body = self.fresh.get(&kept.reference).cloned().or_else(old);
            let body = body.ok_or_else(|| Lost(type_name(kind.type_url()), name.to_string()))?;
            resources.push(ads_pb::Resource {
                name: name.to_string(),
                version: kept.version.clone(),
                resource: Some(body),
                ..Default::default()
            });
        }
        Ok(ads_pb::DeltaDiscoveryResponse { resources, ..Default::default() }.encode_to_vec())
    }
}

/// By this an accepted body is known again.
pub(super) fn hash(body: &Any) -> u64 {
    tulle_core::xxh64(&body.value, 0)
}

/// Kind, name, version and body of everything in `bytes`.
///
/// # Errors
/// When they are not what [`Unsaved::encode`] makes.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<(Kind, String, String, Any)>, String> {
    let message = ads_pb::DeltaDiscoveryResponse::decode(bytes).map_err(|error| error.to_string())?;
    let each = message.resources.into_iter().map(|resource| {
        let body = resource.resource.ok_or_else(|| format!("{:?} has no body", resource.name))?;
        let kind = Kind::from_type_url(&body.type_url);
        let kind = kind.ok_or_else(|| format!("{:?} is of an unknown type, {}", resource.name, body.type_url))?;
        Ok((kind, resource.name, resource.version, body))
    });
    each.collect()
}

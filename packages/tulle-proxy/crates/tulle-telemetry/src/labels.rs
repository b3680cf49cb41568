//! The labels that Istio's metrics give a workload and a service, and how they become small numbers.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use tulle_core::{PeerIdentity, Str};

/// One side's labels; empty texts are printed as `unknown`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PeerLabels {
    pub workload: Label,
    pub namespace: Label,
    pub principal: Label,
    pub app: Label,
    pub version: Label,
    pub cluster: Label,
    pub canonical_service: Label,
    pub canonical_revision: Label,
}

/// The destination service's labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceLabels {
    /// The host, for instance `backend.default.svc.cluster.local`.
    pub service: Label,
    pub name: Label,
    pub namespace: Label,
}

/// A label's value, or nothing.
pub type Label = Option<Str>;

impl PeerLabels {
    /// From a peer's certificate.
    pub fn from_identity(identity: &PeerIdentity) -> Self {
        let spiffe = identity.spiffe.as_ref();
        PeerLabels {
            workload: identity.workload.clone(),
            namespace: spiffe.map(|id| id.namespace.clone()),
            principal: spiffe.map(|id| id.to_string().into()),
            app: identity.app.clone(),
            version: identity.version.clone(),
            cluster: None,
            canonical_service: identity.app.clone().or_else(|| identity.workload.clone()),
            canonical_revision: Some(identity.version.clone().unwrap_or_else(|| "latest".into())),
        }
    }

    /// From endpoint metadata `name;namespace;app;version;cluster`; missing parts stay unknown.
    pub fn from_metadata(workload: &str, principal: Option<Str>) -> Self {
        let mut parts = workload.split(';').map(|part| Some(Str::from(part)).filter(|part| !part.is_empty()));
        let mut next = || parts.next().flatten();
        let (name, namespace, app, version, cluster) = (next(), next(), next(), next(), next());
        PeerLabels {
            canonical_service: app.clone().or_else(|| name.clone()),
            canonical_revision: Some(version.clone().unwrap_or_else(|| "latest".into())),
            workload: name,
            namespace,
            principal,
            app,
            version,
            cluster,
        }
    }
}

pub(crate) fn text(label: &Label) -> &str {
    label.as_deref().filter(|text| !text.is_empty()).unwrap_or("unknown")
}

/// Values numbered in order of first sight.
#[derive(Debug)]
pub(crate) struct Numbered<T> {
    pub items: Vec<T>,
    known: HashMap<T, u32>,
}

impl<T: Clone + Eq + Hash> Numbered<T> {
    pub fn new() -> Self {
        Numbered { items: Vec::new(), known: HashMap::new() }
    }

    pub fn number(&mut self, item: &T) -> u32 {
        if let Some(&found) = self.known.get(item) {
            return found;
        }
        let number = self.items.len() as u32;
        self.items.push(item.clone());
        self.known.insert(item.clone(), number);
        number
    }
}

/// Keys are small numbers of our own making, so a multiplicative hash is enough and cheap.
#[derive(Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }
}

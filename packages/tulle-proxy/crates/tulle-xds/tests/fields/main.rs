//! No field is skipped in silence: in every message that the differential cases hold, each field that is not set there
//! is set, and must then change what is decoded, be refused or be told of, unless it is listed as one that says nothing.

mod corpus;
mod edit;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use envoy_types::pb::google::protobuf::Any;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage as _, Value};
use tulle_xds::decode::{Kind, resource};

use edit::{Place, examples, unpacked};

const DESCRIPTORS: &[u8] = include_bytes!("../../proto/config.bin");
/// One `message.field` a line, each group under the reason why it may say nothing.
const SILENT: &str = include_str!("silent.txt");

/// What a resource decodes to, with every warning; or every error.
fn outcome(kind: Kind, message: &DynamicMessage) -> Result<String, String> {
    use prost_reflect::prost::Message as _;
    let any = Any { type_url: kind.type_url().to_owned(), value: message.encode_to_vec() };
    match resource(kind, &any) {
        Ok((decoded, warnings)) => Ok(format!("{decoded:?} {warnings:?}")),
        Err(findings) => Err(format!("{findings:?}")),
    }
}

/// How often a field is tried that says nothing: in another place it may say something.
const TRIES: usize = 12;

/// A field in the field that holds its message: what a message means may differ from one holder to the other.
type Held = (String, String);

struct Walk<'p> {
    pool: &'p DescriptorPool,
    kind: Kind,
    heard: HashSet<Held>,
    /// Fields that changed nothing so far, with how often and where.
    silent: BTreeMap<Held, (usize, String)>,
}

impl Walk<'_> {
    /// Looks at every message in `root`, a resource that decodes to `base`.
    fn resource(&mut self, root: &DynamicMessage, base: &str) {
        let mut places = vec![Place::default()];
        while let Some(place) = places.pop() {
            let message = place.get(self.pool, root);
            places.extend(place.inside(self.pool, &message));
            if !message.descriptor().full_name().starts_with("google.protobuf.") {
                self.message((root, base), &place, &message);
            }
        }
    }

    fn message(&mut self, (root, base): (&DynamicMessage, &str), place: &Place, message: &DynamicMessage) {
        for field in message.descriptor().fields() {
            let held = (place.holder(), format!("{}.{}", message.descriptor().full_name(), field.name()));
            let tries = self.silent.get(&held).map_or(0, |(tries, _)| *tries);
            if self.heard.contains(&held) || tries >= TRIES {
                continue;
            }
            let tells = |change: &dyn Fn(&mut DynamicMessage)| {
                let changed = place.with(self.pool, root, change);
                outcome(self.kind, &changed).map_or(true, |after| after != base)
            };
            let heard = tells(&|message| message.clear_field(&field))
                || examples(&field).into_iter().any(|value| tells(&|message| message.set_field(&field, value.clone())));
            if heard {
                self.silent.remove(&held);
                self.heard.insert(held);
            } else {
                self.silent.insert(held, (tries + 1, format!("{:?} {}", self.kind, place.names())));
            }
        }
    }
}

/// A line of the list is `message.field`, wherever the message is, or `holder: message.field`.
fn allowed() -> BTreeSet<&'static str> {
    SILENT.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn every_field_has_an_effect_or_is_told_of() {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let mut walk = Walk { pool: &pool, kind: Kind::Cluster, heard: HashSet::new(), silent: BTreeMap::new() };
    let mut resources = 0;
    for (kind, message) in corpus::resources(&pool) {
        if let Ok(base) = outcome(kind, &message) {
            walk.kind = kind;
            walk.resource(&message, &base);
            resources += 1;
        }
    }
    let mut unused = allowed();
    let mut wrong = Vec::new();
    for ((holder, field), (_, place)) in &walk.silent {
        let here = format!("{holder}: {field}");
        let (anywhere, listed) = (unused.take(&**field), unused.take(&*here));
        if anywhere.is_none() && listed.is_none() && !allowed().contains(&**field) {
            wrong.push(format!("{here} ({place})"));
        }
    }
    assert!(wrong.is_empty(), "{} fields say nothing:\n{}", wrong.len(), wrong.join("\n"));
    assert!(unused.is_empty(), "silent.txt lists what is not so: {unused:?}");
    assert!(resources > 200 && walk.heard.len() > 1000, "{resources} resources, {} fields", walk.heard.len());
}

#[test]
fn a_field_that_says_nothing_is_found() {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let (kind, message) = corpus::resources(&pool).into_iter().find(|(kind, _)| *kind == Kind::Route).unwrap();
    let field = message.descriptor().get_field_by_name("name").unwrap();
    let mut other = message.clone();
    other.set_field(&field, Value::String("other".to_owned()));
    assert_ne!(outcome(kind, &message), outcome(kind, &other));
    assert_eq!(outcome(kind, &message), outcome(kind, &message.clone()));
    assert!(unpacked(&pool, &Any { type_url: "x/y.Z".to_owned(), value: Vec::new() }).is_none());
}

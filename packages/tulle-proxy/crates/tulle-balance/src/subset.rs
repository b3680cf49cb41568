//! Subsets of a cluster's hosts by their `envoy.lb` labels.

use std::collections::{BTreeMap, HashMap};

use tulle_core::Str;

use crate::config::{SubsetConfig, SubsetFallback};
use crate::view::{Group, View};

type Pairs = Box<[(Str, Str)]>;

/// Views of all subsets, found by the exact labels that a request requires.
#[derive(Debug)]
pub struct Subsets {
    views: HashMap<Pairs, View>,
    selectors: Box<[(Box<[Str]>, SubsetFallback)]>,
    default: Option<View>,
    fallback: SubsetFallback,
    panic_mode_any: bool,
}

/// Where a request with given labels goes.
pub enum Found<'a> {
    View(&'a mut View),
    /// The whole cluster.
    Any,
    Nothing,
}

impl Subsets {
    /// Makes a view for every combination of values that some host has, for every selector.
    pub fn new(subsets: &SubsetConfig, groups: &[Group], build: &dyn Fn(&[Group]) -> View) -> Self {
        let mut views = HashMap::new();
        for selector in &subsets.selectors {
            for labels in combinations(&selector.keys, groups) {
                views.entry(labels).or_insert_with_key(|labels| build(&narrow(groups, labels)));
            }
        }
        let default: Vec<(Str, Str)> = subsets.default_subset.iter().cloned().collect();
        let selectors = subsets
            .selectors
            .iter()
            .map(|selector| (selector.keys.clone(), selector.fallback.unwrap_or(subsets.fallback)))
            .collect();
        Subsets {
            views,
            selectors,
            default: (!default.is_empty()).then(|| build(&narrow(groups, &default))),
            fallback: subsets.fallback,
            panic_mode_any: subsets.panic_mode_any,
        }
    }

    /// The view for exactly these labels (sorted by key), or what the fallback says.
    pub fn find(&mut self, wanted: &[(Str, Str)]) -> Found<'_> {
        // Looked up twice: returning the first borrow would keep the map borrowed on the way to the fallback too.
        if self.views.contains_key(wanted) {
            let usable = |view: &&mut View| !self.panic_mode_any || view.has_healthy();
            return self.views.get_mut(wanted).filter(usable).map_or(Found::Any, Found::View);
        }
        let same_keys =
            |keys: &[Str]| keys.len() == wanted.len() && keys.iter().zip(wanted).all(|(key, (name, _))| key == name);
        let selector = self.selectors.iter().find(|(keys, _)| same_keys(keys));
        match selector.map_or(self.fallback, |(_, fallback)| *fallback) {
            SubsetFallback::NoEndpoint => Found::Nothing,
            SubsetFallback::AnyEndpoint => Found::Any,
            SubsetFallback::DefaultSubset => self.default.as_mut().map_or(Found::Any, Found::View),
        }
    }
}

fn combinations(keys: &[Str], groups: &[Group]) -> Vec<Pairs> {
    let mut seen = BTreeMap::new();
    for host in groups.iter().flat_map(|group| &group.hosts) {
        let labels = &host.endpoint.metadata.lb;
        let pairs: Option<Pairs> = keys.iter().map(|key| Some((key.clone(), labels.get(key)?.clone()))).collect();
        if let Some(pairs) = pairs {
            seen.insert(pairs, ());
        }
    }
    seen.into_keys().collect()
}

fn narrow(groups: &[Group], labels: &[(Str, Str)]) -> Vec<Group> {
    let keep = |group: &Group| Group {
        priority: group.priority,
        weight: group.weight,
        hosts: group.hosts.iter().filter(|host| host.endpoint.metadata.lb.contains_all(labels)).cloned().collect(),
    };
    groups.iter().map(keep).collect()
}

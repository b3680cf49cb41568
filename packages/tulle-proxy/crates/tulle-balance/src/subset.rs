//! Subsets of a cluster's hosts by their `envoy.lb` labels.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use tulle_core::{Rng, Str};

use crate::config::{ListLabels, SubsetConfig, SubsetFallback, SubsetLocalities};
use crate::host::Host;
use crate::view::{Choice, Group, View};

type Pairs = Box<[(Str, Str)]>;

/// Views of all subsets, found by the exact labels that a request requires.
#[derive(Debug)]
pub struct Subsets {
    views: HashMap<Pairs, View>,
    selectors: Box<[(Box<[Str]>, SubsetFallback)]>,
    /// Hosts with the default labels; all, when none are given.
    default: View,
    fallback: SubsetFallback,
    panic_mode_any: bool,
}

/// No subset, and no fallback either.
pub struct NoSubset;

impl Subsets {
    /// Makes a view for every combination of values that some host has, for every selector.
    pub fn new(subsets: &SubsetConfig, groups: &[Group], build: &dyn Fn(&[Group]) -> View) -> Self {
        let mut views = HashMap::new();
        for selector in &subsets.selectors {
            for labels in combinations(subsets, &selector.keys, groups) {
                let narrowed = |labels: &Pairs| build(&narrow(subsets, groups, labels));
                views.entry(labels).or_insert_with_key(narrowed);
            }
        }
        let default: Vec<(Str, Str)> = subsets.default_subset.iter().cloned().collect();
        let selectors = subsets
            .selectors
            .iter()
            .map(|selector| (selector.keys.clone(), selector.fallback.clone().unwrap_or(subsets.fallback.clone())))
            .collect();
        Subsets {
            views,
            selectors,
            default: build(&narrow(subsets, groups, &default)),
            fallback: subsets.fallback.clone(),
            panic_mode_any: subsets.panic_mode_any,
        }
    }

    /// Picks from the subset with exactly these labels (sorted by key), or where the fallback says; `whole` is all of
    /// the cluster.
    ///
    /// # Errors
    /// When there is neither a subset nor a fallback.
    pub fn pick<'v>(
        &'v mut self,
        wanted: &[(Str, Str)],
        whole: &'v mut View,
        (choice, rng): (&Choice<'_>, &mut Rng),
    ) -> Result<Option<&'v Rc<Host>>, NoSubset> {
        // Looked up twice: returning the first borrow would keep the map borrowed on the way to the fallback too.
        if self.views.contains_key(wanted) {
            return Ok(self.views.get_mut(wanted).and_then(|view| view.pick(choice, rng)));
        }
        let same_keys =
            |keys: &[Str]| keys.len() == wanted.len() && keys.iter().zip(wanted).all(|(key, (name, _))| key == name);
        let own = self.selectors.iter().find(|(keys, _)| same_keys(keys)).map(|(_, fallback)| fallback.clone());
        match own.unwrap_or_else(|| self.fallback.clone()) {
            SubsetFallback::NoEndpoint => Err(NoSubset),
            SubsetFallback::AnyEndpoint => Ok(whole.pick(choice, rng)),
            SubsetFallback::DefaultSubset => Ok(match self.default.pick(choice, rng) {
                None if self.panic_mode_any => whole.pick(choice, rng),
                found => found,
            }),
            SubsetFallback::Keys(keys) => {
                // Fewer keys each time, so this ends.
                let fewer: Vec<(Str, Str)> = wanted.iter().filter(|(key, _)| keys.contains(key)).cloned().collect();
                if fewer.len() < wanted.len() { self.pick(&fewer, whole, (choice, rng)) } else { Err(NoSubset) }
            }
        }
    }
}

/// Every combination of values of `keys` that a host has; a list of values counts as each of them.
fn combinations(config: &SubsetConfig, keys: &[Str], groups: &[Group]) -> Vec<Pairs> {
    let mut seen = BTreeSet::new();
    for host in groups.iter().flat_map(|group| &group.hosts) {
        let mut found: Vec<Vec<(Str, Str)>> = vec![Vec::new()];
        for key in keys {
            let values = values(config, host, key);
            found = found
                .iter()
                .flat_map(|before| {
                    values.iter().map(move |value| {
                        let mut with = before.clone();
                        with.push((key.clone(), value.clone()));
                        with
                    })
                })
                .collect();
        }
        seen.extend(found.into_iter().map(Pairs::from));
    }
    seen.into_iter().collect()
}

fn values(config: &SubsetConfig, host: &Host, key: &str) -> Vec<Str> {
    let metadata = &host.endpoint.metadata;
    let lists: &[_] = if config.lists == ListLabels::Any { &metadata.lb_lists } else { &[] };
    let lists = lists.iter().filter(|(name, _)| &**name == key).flat_map(|(_, values)| values.iter());
    metadata.lb.get(key).into_iter().chain(lists).cloned().collect()
}

fn narrow(config: &SubsetConfig, groups: &[Group], labels: &[(Str, Str)]) -> Vec<Group> {
    let fits = |host: &Host| labels.iter().all(|(key, value)| values(config, host, key).contains(value));
    let keep = |group: &Group| {
        let hosts: Vec<Rc<Host>> = group.hosts.iter().filter(|host| fits(host)).cloned().collect();
        let weight = match config.localities {
            SubsetLocalities::Ignored => None,
            SubsetLocalities::Kept => group.weight,
            SubsetLocalities::Scaled => group.weight.map(|weight| {
                let part = hosts.len() as f64 / group.hosts.len().max(1) as f64;
                (f64::from(weight) * part).round() as u32
            }),
        };
        Group { priority: group.priority, locality: group.locality.clone(), weight, hosts }
    };
    groups.iter().map(keep).collect()
}

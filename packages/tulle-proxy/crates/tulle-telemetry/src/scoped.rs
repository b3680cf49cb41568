//! Statistics of things that come and go, clusters for one: they take room for as long as somebody holds them, and are
//! gone afterwards, as Envoy's are with their scope.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;

use tulle_core::Str;

use crate::registry::{Counter, Gauge, Kind, Registry};

/// The statistics that everything of one sort has.
#[derive(Debug)]
pub struct Set {
    /// The label that tells one thing from another.
    pub label: &'static str,
    /// Name, help and kind of each; counters and gauges only.
    pub members: &'static [(&'static str, &'static str, Kind)],
}

/// Somebody's hold on the slots of one thing.
#[derive(Debug)]
pub struct Hold {
    registry: Registry,
    set: &'static Set,
    name: Str,
    first: u32,
}

/// Slots, and the hold on them: what counts in them must not outlive it.
#[derive(Debug)]
pub struct Scoped<T> {
    stats: T,
    hold: Hold,
}

impl<T> Scoped<T> {
    pub(crate) fn new(stats: T, hold: Hold) -> Scoped<T> {
        Scoped { stats, hold }
    }

    /// Holds them for the life of the process.
    pub fn forever(self) -> T {
        std::mem::forget(self.hold);
        self.stats
    }
}

impl<T> Deref for Scoped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.stats
    }
}

impl Hold {
    /// The slots of `name`; made for its first holder.
    pub fn new(registry: &Registry, set: &'static Set, name: &str) -> Hold {
        let first = registry.lock().hold(set, name);
        Hold { registry: registry.clone(), set, name: name.into(), first }
    }

    /// The slots in the order of the set's members.
    pub(crate) fn slots(&self) -> Slots {
        // The swallowing slots have no successors of their own.
        Slots { next: self.first, step: u32::from(self.first != 0) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // The slot that swallows what is too much is nobody's.
        if self.first != 0 {
            self.registry.lock().let_go(self.set, &self.name);
        }
    }
}

pub(crate) struct Slots {
    next: u32,
    step: u32,
}

impl Slots {
    fn take(&mut self) -> u32 {
        let slot = self.next;
        self.next += self.step;
        slot
    }

    pub fn counter(&mut self) -> Counter {
        Counter::at(self.take())
    }

    pub fn gauge(&mut self) -> Gauge {
        Gauge::at(self.take())
    }
}

#[derive(Debug)]
struct Block {
    first: u32,
    holders: u32,
}

/// All that is held, and the slots that no longer are.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    sets: Vec<(&'static Set, BTreeMap<Str, Block>)>,
    /// By how many they are together.
    free: HashMap<u32, Vec<u32>>,
}

impl Scopes {
    /// The slots of `name`, with one holder more; `make` gives new ones. The first slot, which swallows everything, is not
    /// held by anybody.
    pub fn hold(&mut self, set: &'static Set, name: &str, make: impl FnOnce(u32) -> Option<u32>) -> u32 {
        let size = set.members.len() as u32;
        let at = self.sets.iter().position(|(known, _)| std::ptr::eq(*known, set)).unwrap_or_else(|| {
            self.sets.push((set, BTreeMap::new()));
            self.sets.len() - 1
        });
        let blocks = &mut self.sets[at].1;
        if let Some(block) = blocks.get_mut(name) {
            block.holders += 1;
            return block.first;
        }
        let free = self.free.get_mut(&size).and_then(Vec::pop);
        let Some(first) = free.or_else(|| make(size)) else { return 0 };
        blocks.insert(name.into(), Block { first, holders: 1 });
        first
    }

    /// With one holder less; the slots that are free for that, if it was the last.
    pub fn let_go(&mut self, set: &'static Set, name: &str) -> Option<std::ops::Range<u32>> {
        let (_, blocks) = self.sets.iter_mut().find(|(known, _)| std::ptr::eq(*known, set))?;
        let block = blocks.get_mut(name)?;
        block.holders -= 1;
        if block.holders > 0 {
            return None;
        }
        let (first, size) = (block.first, set.members.len() as u32);
        blocks.remove(name);
        self.free.entry(size).or_default().push(first);
        Some(first..first + size)
    }

    /// Every member of every set: its name, help and kind, and the slots of all things by their label.
    pub fn families(&self) -> impl Iterator<Item = (&'static str, &'static str, Kind, Series<'_>)> {
        self.sets.iter().filter(|(_, blocks)| !blocks.is_empty()).flat_map(|(set, blocks)| {
            let of_set = set.members.iter().zip(0u32..);
            of_set.map(|((name, help, kind), offset)| (*name, *help, *kind, Series { set, blocks, offset }))
        })
    }
}

/// The slots of one statistic.
pub(crate) struct Series<'a> {
    set: &'static Set,
    blocks: &'a BTreeMap<Str, Block>,
    offset: u32,
}

impl<'a> Series<'a> {
    /// The label's name, its value and the slot, by value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'a str, u32)> + use<'a> {
        let (label, offset) = (self.set.label, self.offset);
        self.blocks.iter().map(move |(name, block)| (label, &**name, block.first + offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prometheus;

    static SET: Set = Set { label: "of", members: &[("a_total", "A.", Kind::Counter), ("b", "B.", Kind::Gauge)] };

    fn hold(registry: &Registry, name: &str) -> Scoped<(Counter, Gauge)> {
        let hold = Hold::new(registry, &SET, name);
        let mut slots = hold.slots();
        Scoped::new((slots.counter(), slots.gauge()), hold)
    }

    fn text(registry: &Registry) -> String {
        let mut out = String::new();
        prometheus::render(registry, &mut out);
        out
    }

    #[test]
    fn what_nobody_holds_is_gone_and_begins_anew() {
        let registry = Registry::new();
        let (first, second) = (registry.sheet(), registry.sheet());
        let (one, same) = (hold(&registry, "x\""), hold(&registry, "x\""));
        first.inc(one.0);
        second.inc(same.0);
        second.move_by(same.1, -3);
        drop(one);
        let a = "# HELP a_total A.\n# TYPE a_total counter\n";
        let b = "# HELP b B.\n# TYPE b gauge\n";
        assert_eq!(text(&registry), format!("{a}a_total{{of=\"x\\\"\"}} 2\n{b}b{{of=\"x\\\"\"}} -3\n"));
        let slot = same.0;
        drop(same);
        assert_eq!(text(&registry), "");
        let next = hold(&registry, "y");
        assert_eq!(next.0, slot, "slots are used again");
        assert_eq!(text(&registry), format!("{a}a_total{{of=\"y\"}} 0\n{b}b{{of=\"y\"}} 0\n"));
    }

    #[test]
    fn any_number_of_things_may_come_and_go() {
        let registry = Registry::new();
        let kept = hold(&registry, "kept").forever();
        for number in 0..3 * crate::registry::MAX_SLOTS {
            drop(hold(&registry, &number.to_string()));
        }
        registry.sheet().inc(kept.0);
        assert_eq!(registry.value(kept.0), 1);
        assert_eq!(registry.lock().overflowed, 0);
    }

    #[test]
    fn what_is_too_much_is_swallowed() {
        let registry = Registry::new();
        let all: Vec<_> = (0..crate::registry::MAX_SLOTS).map(|number| hold(&registry, &number.to_string())).collect();
        let sheet = registry.sheet();
        all.iter().for_each(|one| sheet.inc(one.0));
        assert_eq!(registry.value(all[0].0), 1);
        assert!(registry.lock().overflowed > 0);
        drop(all);
        assert_eq!(text(&registry), "");
    }
}

//! Earliest-deadline-first scheduling: each item comes up in proportion to its weight, evenly spread.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// A scheduler over item numbers. A pick is O(log n) and allocates nothing.
#[derive(Debug, Default)]
pub struct Edf {
    heap: BinaryHeap<Reverse<Entry>>,
    now: f64,
    order: u64,
}

#[derive(Debug)]
struct Entry {
    deadline: f64,
    /// Breaks ties by age, so that equal weights rotate.
    order: u64,
    item: u32,
}

impl Edf {
    /// Schedules `items` given as (item, weight, time left from an earlier scheduler).
    pub fn new(items: impl Iterator<Item = (u32, f64, Option<f64>)>) -> Self {
        let mut edf = Edf::default();
        let entries: Vec<_> = items
            .filter(|(_, weight, _)| *weight > 0.0)
            .map(|(item, weight, left)| {
                edf.order += 1;
                // A longer rest than a whole period would starve an item whose weight grew.
                let deadline = left.map_or(1.0 / weight, |left| left.clamp(0.0, 1.0 / weight));
                Reverse(Entry { deadline, order: edf.order, item })
            })
            .collect();
        edf.heap = BinaryHeap::from(entries);
        edf
    }

    /// The next item; `weight` tells its current weight, for when it comes up again.
    pub fn pick(&mut self, weight: impl FnOnce(u32) -> f64) -> Option<u32> {
        let mut top = self.heap.peek_mut()?;
        let entry = &mut top.0;
        self.now = entry.deadline;
        self.order += 1;
        entry.deadline += 1.0 / weight(entry.item).max(f64::MIN_POSITIVE.sqrt());
        entry.order = self.order;
        let item = entry.item;
        drop::<PeekMut<'_, _>>(top);
        Some(item)
    }

    /// Time left per item, for a successor.
    pub fn left(&self) -> impl Iterator<Item = (u32, f64)> {
        self.heap.iter().map(|Reverse(entry)| (entry.item, entry.deadline - self.now))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.deadline.total_cmp(&other.deadline).then(self.order.cmp(&other.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_weights_rotate() {
        let mut edf = Edf::new((0..3).map(|item| (item, 1.0, None)));
        let picks: Vec<_> = (0..6).filter_map(|_| edf.pick(|_| 1.0)).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn any_window_is_close_to_the_weights(weights in prop::collection::vec(1u32..50, 1..20)) {
            let mut edf = Edf::new(weights.iter().enumerate().map(|(item, weight)| (item as u32, f64::from(*weight), None)));
            let total: u32 = weights.iter().sum();
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..total * 3 {
                let item = edf.pick(|item| f64::from(weights[item as usize])).unwrap();
                counts[item as usize] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!(count.abs_diff(weight * 3) <= 1, "{counts:?} for {weights:?}");
            }
        }
    }
}

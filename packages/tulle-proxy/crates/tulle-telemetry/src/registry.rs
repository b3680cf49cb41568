//! Metric families and label sets, resolved once to slots; each worker adds to its own sheet of plain numbers.
//!
//! The `Registry` is shared and locked only when a label set is first seen or a scrape runs. A `Sheet` belongs to one
//! worker: it is the only writer, so an increment is a load, an add and a store, with no locked instruction; the scrape
//! reads the same cells from another thread and sums the workers.

use std::cell::Cell;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tulle_core::Str;

use crate::scoped::{Scopes, Set};

const CHUNK: usize = 1024;
const CHUNKS: usize = 256;

/// Slots beyond this many are not given out; the first slot then takes what is left over.
pub const MAX_SLOTS: usize = CHUNK * CHUNKS;

/// The slot of a counter with one label set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Counter(u32);

/// The slot of a gauge; a scrape sums the workers' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gauge(u32);

/// The first slot of a histogram: one per bucket (not cumulative), one for +Inf, then the sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Histogram {
    first: u32,
    bounds: &'static [f64],
}

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    /// Upper bounds of the buckets, ascending, without +Inf.
    Histogram(&'static [f64]),
}

/// A label set: (name, value) pairs in the order in which they are printed.
pub type LabelPairs = Arc<[(Str, Str)]>;

#[derive(Debug)]
pub(crate) struct Family {
    pub kind: Kind,
    pub help: &'static str,
    pub series: Vec<(LabelPairs, u32)>,
    known: HashMap<LabelPairs, u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Families {
    pub by_name: HashMap<&'static str, Family>,
    next: u32,
    pub cells: Vec<Arc<Cells>>,
    pub scopes: Scopes,
    pub overflowed: u64,
}

/// All metrics of the process.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    shared: Arc<Mutex<Families>>,
}

#[derive(Debug)]
pub(crate) struct Cells {
    chunks: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

/// One worker's numbers. Not `Sync` and not `Clone`: there is exactly one writer.
#[derive(Debug)]
pub struct Sheet {
    cells: Arc<Cells>,
    single_writer: PhantomData<Cell<()>>,
}

impl Registry {
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Families> {
        // A poisoned lock means that another thread panicked between two consistent states; numbers stay usable.
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A sheet for one worker; its numbers stay in the sums after it is dropped, since counters never go back.
    pub fn sheet(&self) -> Sheet {
        let cells = Arc::new(Cells { chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() });
        self.lock().cells.push(cells.clone());
        Sheet { cells, single_writer: PhantomData }
    }

    /// The counter `name` with these labels; made on first sight.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Counter {
        Counter(self.lock().slot(name, help, Kind::Counter, labels))
    }

    /// The gauge `name` with these labels.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Gauge {
        Gauge(self.lock().slot(name, help, Kind::Gauge, labels))
    }

    /// The histogram `name` with these labels and buckets.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        bounds: &'static [f64],
        labels: &[(&str, &str)],
    ) -> Histogram {
        Histogram { first: self.lock().slot(name, help, Kind::Histogram(bounds), labels), bounds }
    }

    /// The sum over all workers.
    pub fn value(&self, counter: Counter) -> u64 {
        self.lock().sum(counter.0)
    }

    /// The sum over all workers of a gauge.
    pub fn gauge_value(&self, gauge: Gauge) -> i64 {
        self.lock().sum(gauge.0) as i64
    }
}

impl Counter {
    pub(crate) fn at(slot: u32) -> Counter {
        Counter(slot)
    }
}

impl Gauge {
    pub(crate) fn at(slot: u32) -> Gauge {
        Gauge(slot)
    }
}

impl Kind {
    fn slots(self) -> u32 {
        match self {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Histogram(bounds) => bounds.len() as u32 + 2,
        }
    }
}

impl Families {
    fn slot(&mut self, name: &'static str, help: &'static str, kind: Kind, labels: &[(&str, &str)]) -> u32 {
        let pairs: LabelPairs = labels.iter().map(|(key, value)| (Str::from(*key), Str::from(*value))).collect();
        let family = self.by_name.entry(name).or_insert_with(|| Family {
            kind,
            help,
            series: Vec::new(),
            known: HashMap::new(),
        });
        assert_eq!(family.kind, kind, "the metric {name} was registered as another kind");
        if let Some(&slot) = family.known.get(&pairs) {
            return slot;
        }
        let Some(slot) = take(&mut self.next, kind.slots()) else {
            self.overflowed += 1;
            return 0;
        };
        family.series.push((pairs.clone(), slot));
        family.known.insert(pairs, slot);
        slot
    }

    /// The first slot of what has `name`, with one holder more.
    pub fn hold(&mut self, set: &'static Set, name: &str) -> u32 {
        let first = self.scopes.hold(set, name, |size| take(&mut self.next, size));
        self.overflowed += u64::from(first == 0);
        first
    }

    /// One holder less. After the last the slots are as new: no worker counts in them any more.
    pub fn let_go(&mut self, set: &'static Set, name: &str) {
        for slot in self.scopes.let_go(set, name).into_iter().flatten() {
            self.cells.iter().for_each(|cells| cells.clear(slot));
        }
    }

    /// The sum of a slot over all workers; wraps, so that gauges may be negative on one worker.
    pub fn sum(&self, slot: u32) -> u64 {
        self.cells.iter().fold(0u64, |sum, cells| sum.wrapping_add(cells.read(slot)))
    }
}

/// So many slots in a row, while there are any. The first are never given out: they swallow what comes after the table
/// is full.
fn take(next: &mut u32, slots: u32) -> Option<u32> {
    let first = (*next).max(64);
    if first as usize + slots as usize > MAX_SLOTS {
        return None;
    }
    *next = first + slots;
    Some(first)
}

impl Cells {
    fn clear(&self, slot: u32) {
        if let Some(chunk) = self.chunks[slot as usize / CHUNK].get() {
            chunk[slot as usize % CHUNK].store(0, Ordering::Relaxed);
        }
    }

    fn read(&self, slot: u32) -> u64 {
        let chunk = self.chunks[slot as usize / CHUNK].get();
        chunk.map_or(0, |chunk| chunk[slot as usize % CHUNK].load(Ordering::Relaxed))
    }

    #[inline]
    fn cell(&self, slot: u32) -> &AtomicU64 {
        let chunk = self.chunks[slot as usize / CHUNK].get_or_init(|| (0..CHUNK).map(|_| AtomicU64::new(0)).collect());
        &chunk[slot as usize % CHUNK]
    }
}

impl Sheet {
    #[inline]
    fn bump(&self, slot: u32, by: u64) {
        let cell = self.cells.cell(slot);
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    #[inline]
    pub fn inc(&self, counter: Counter) {
        self.bump(counter.0, 1);
    }

    #[inline]
    pub fn add(&self, counter: Counter, by: u64) {
        self.bump(counter.0, by);
    }

    /// Moves a gauge up or down.
    #[inline]
    pub fn move_by(&self, gauge: Gauge, by: i64) {
        self.bump(gauge.0, by as u64);
    }

    #[inline]
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.cells.cell(gauge.0).store(value, Ordering::Relaxed);
    }

    /// Records one observation, in the unit of the histogram's bounds. The sum is kept in thousandths.
    #[inline]
    pub fn observe(&self, histogram: Histogram, value: f64) {
        let bucket = histogram.bounds.partition_point(|bound| *bound < value);
        self.bump(histogram.first + bucket as u32, 1);
        self.bump(histogram.first + histogram.bounds.len() as u32 + 1, (value * 1000.0) as u64);
    }
}

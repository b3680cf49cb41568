//! The streams of a connection: by number, by place, and the numbers of those that closed lately.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::stream::Stream;

/// A stream's place; it stays right until the stream is released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    slot: u32,
    id: u32,
}

impl Key {
    /// The stream's number on the wire.
    pub fn id(self) -> u32 {
        self.id
    }
}

/// How a stream that is no more was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// Both sides ended, or the peer reset it: nothing may follow.
    Finished,
    /// We reset it: the peer may not know yet.
    ByUs,
}

/// Stream numbers count up by two: they are spread well enough as they are.
#[derive(Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.0 = self.0 << 8 | u64::from(*b));
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

const REMEMBERED: usize = 128;

pub struct Store<F> {
    slots: Vec<Option<Box<Stream<F>>>>,
    free: Vec<u32>,
    /// Streams that the peer may still send frames on.
    numbers: HashMap<u32, u32, BuildHasherDefault<NumberHasher>>,
    closed: VecDeque<(u32, Closed)>,
    live: usize,
}

impl<F> Store<F> {
    pub fn new() -> Store<F> {
        Store { slots: Vec::new(), free: Vec::new(), numbers: HashMap::default(), closed: VecDeque::new(), live: 0 }
    }

    pub fn add(&mut self, stream: Stream<F>) -> Key {
        let id = stream.id;
        let stream = Some(Box::new(stream));
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = stream;
                slot
            }
            None => {
                self.slots.push(stream);
                self.slots.len() as u32 - 1
            }
        };
        self.numbers.insert(id, slot);
        self.live += 1;
        Key { slot, id }
    }

    pub fn find(&self, id: u32) -> Option<Key> {
        self.numbers.get(&id).map(|slot| Key { slot: *slot, id })
    }

    pub fn get(&mut self, key: Key) -> Option<&mut Stream<F>> {
        self.slots.get_mut(key.slot as usize)?.as_deref_mut().filter(|stream| stream.id == key.id)
    }

    /// The stream no longer counts and no longer gets frames; it stays until it is released.
    pub fn close(&mut self, key: Key, how: Closed) {
        let Some(stream) = self.get(key) else { return };
        if !std::mem::replace(&mut stream.live, false) {
            return;
        }
        self.live -= 1;
        self.numbers.remove(&key.id);
        self.note(key.id, how);
    }

    /// Remembers how a stream ended.
    pub fn note(&mut self, id: u32, how: Closed) {
        if self.closed.len() == REMEMBERED {
            self.closed.pop_front();
        }
        self.closed.push_back((id, how));
    }

    pub fn release(&mut self, key: Key) {
        if self.get(key).is_none() {
            return;
        }
        self.slots[key.slot as usize] = None;
        self.free.push(key.slot);
        if self.free.len() == self.slots.len() && self.slots.len() > 64 {
            self.slots = Vec::new();
            self.free = Vec::new();
            self.numbers.shrink_to(16);
        }
    }

    /// How a stream that is gone was closed. `None` when it is not remembered; then `forgotten` tells whether it may
    /// have been closed longer ago.
    pub fn closed(&self, id: u32) -> Option<Closed> {
        self.closed.iter().rev().find(|(closed, _)| *closed == id).map(|(_, how)| *how)
    }

    pub fn forgets(&self) -> bool {
        self.closed.len() == REMEMBERED
    }

    /// Streams that count against the limit of concurrent ones.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Streams not yet released.
    pub fn held(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn keys(&self) -> Vec<Key> {
        self.numbers.iter().map(|(id, slot)| Key { slot: *slot, id: *id }).collect()
    }
}

//! The dynamic table (RFC 7541 §2.3.2, §4): entries in one text, oldest evicted first.

use std::collections::VecDeque;

/// What every entry costs besides its text (RFC 7541 §4.1).
pub const OVERHEAD: usize = 32;

struct Entry<M> {
    at: usize,
    name: usize,
    value: usize,
    meta: M,
}

/// `M` is what the owner remembers about an entry.
pub struct Table<M> {
    text: Vec<u8>,
    entries: VecDeque<Entry<M>>,
    size: usize,
    max: usize,
    /// Entries ever added: an entry's serial number never changes, unlike its index.
    added: u64,
}

impl<M: Copy> Table<M> {
    pub fn new(max: usize) -> Table<M> {
        Table { text: Vec::new(), entries: VecDeque::new(), size: 0, max, added: 0 }
    }

    pub fn max(&self) -> usize {
        self.max
    }

    pub fn set_max(&mut self, max: usize) {
        self.max = max;
        self.shrink_to(max);
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size
            && let Some(oldest) = self.entries.pop_front()
        {
            self.size -= oldest.name + oldest.value + OVERHEAD;
        }
        if self.entries.is_empty() {
            self.text.clear();
        }
    }

    /// Adds an entry, evicting what must go; one larger than the table just empties it (RFC 7541 §4.4).
    pub fn add(&mut self, name: &[u8], value: &[u8], meta: M) {
        let size = name.len() + value.len() + OVERHEAD;
        self.shrink_to(self.max.saturating_sub(size));
        if size > self.max {
            return;
        }
        self.make_room(name.len() + value.len());
        let at = self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.entries.push_back(Entry { at, name: name.len(), value: value.len(), meta });
        self.size += size;
        self.added += 1;
    }

    /// Moves the live text to the front once the dead text before it is as long as the table may be.
    fn make_room(&mut self, more: usize) {
        let dead = self.entries.front().map_or(self.text.len(), |oldest| oldest.at);
        if self.text.len() + more <= 2 * self.max || dead == 0 {
            return;
        }
        self.text.drain(..dead);
        self.entries.iter_mut().for_each(|entry| entry.at -= dead);
    }

    /// The entry `back` places before the newest: name, value, and what is remembered about it.
    pub fn recent(&self, back: usize) -> Option<(&[u8], &[u8], M)> {
        let nth = self.entries.len().checked_sub(back + 1)?;
        let entry = &self.entries[nth];
        let (name, value) = self.text[entry.at..entry.at + entry.name + entry.value].split_at(entry.name);
        Some((name, value, entry.meta))
    }

    /// The serial number of the next entry.
    pub fn next(&self) -> u64 {
        self.added
    }

    /// How many places before the newest the entry with this serial number is, if it is still there.
    pub fn back(&self, serial: u64) -> Option<usize> {
        let back = self.added.checked_sub(serial + 1)? as usize;
        (back < self.entries.len()).then_some(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_bounded_and_entries_stay_right() {
        let mut table = Table::new(200);
        for n in 0..1000u32 {
            let value = n.to_string();
            table.add(b"name", value.as_bytes(), n);
            assert!(table.text.capacity() <= 1024 && table.size <= 200);
            let (name, newest, meta) = table.recent(0).unwrap();
            assert_eq!((name, newest, meta), (&b"name"[..], value.as_bytes(), n));
            let serial = table.next() - 1;
            assert_eq!(table.back(serial), Some(0));
        }
        assert_eq!(table.entries.len(), 5);
        assert_eq!(table.recent(4).unwrap().1, b"995");
        assert_eq!(table.back(994), None);
        assert!(table.recent(5).is_none());
        table.add(&[b'x'; 400], b"", 0);
        assert!(table.recent(0).is_none());
    }
}

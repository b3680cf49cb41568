//! Shared immutable strings, deduplicated when a configuration is compiled.

use std::collections::HashSet;
use std::sync::Arc;

/// A shared immutable string; cloning it never copies the text.
pub type Str = Arc<str>;

/// The text that bytes are, where they are UTF-8. The texts of requests are short and ASCII, which is found out eight bytes
/// at a time here and byte by byte by the standard library.
#[inline]
pub fn utf8(bytes: &[u8]) -> Option<&str> {
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).ok()
}

/// Hands out one `Str` per distinct text, so that equal names in one configuration share their memory.
#[derive(Default, Debug)]
pub struct Interner {
    known: HashSet<Str>,
}

impl Interner {
    pub fn new() -> Self {
        Self::default()
    }

    /// The shared copy of `text`, made on first sight.
    pub fn intern(&mut self, text: &str) -> Str {
        if let Some(found) = self.known.get(text) {
            return found.clone();
        }
        let made: Str = Arc::from(text);
        self.known.insert(made.clone());
        made
    }

    /// How many distinct texts are held.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Forgets the texts that nobody else holds, so that a long-lived interner does not grow with churn.
    pub fn sweep(&mut self) {
        self.known.retain(|text| Arc::strong_count(text) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_exactly_where_they_are_utf_8() {
        for bytes in [&b""[..], b"/api/items/42", "gr\u{fc}n".as_bytes(), b"\xff", b"eight by\xc3", &[b'a'; 40]] {
            assert_eq!(utf8(bytes), std::str::from_utf8(bytes).ok());
        }
    }

    #[test]
    fn equal_texts_share_memory_and_unused_ones_are_swept() {
        let mut interner = Interner::new();
        let first = interner.intern("outbound|80||a");
        let second = interner.intern("outbound|80||a");
        assert!(Arc::ptr_eq(&first, &second));
        interner.intern("gone");
        interner.sweep();
        assert_eq!(interner.len(), 1);
    }
}

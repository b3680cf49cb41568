//! Header lists of one message: names and values as offsets into one text that is reused from message to message.

mod known;

pub use known::{Classes, Known};

use crate::h1::spelling::{Spelled, Spelling};

/// A piece of the text of a [`Headers`].
#[derive(Clone, Copy, Default, Debug)]
pub struct Span {
    at: u32,
    len: u32,
}

impl Span {
    pub(crate) fn new(at: usize, len: usize) -> Span {
        Span { at: at as u32, len: len as u32 }
    }

    /// The last `len` bytes of this piece.
    pub(crate) fn end(self, len: usize) -> Span {
        let skipped = self.len.saturating_sub(len as u32);
        Span { at: self.at + skipped, len: self.len - skipped }
    }

    pub fn len(self) -> usize {
        self.len as usize
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// First and one-past-last byte in the text.
    pub fn range(self) -> std::ops::Range<usize> {
        self.at as usize..(self.at + self.len) as usize
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Span,
    value: Span,
    known: Known,
    live: bool,
    /// In the text, the value follows the name as in an HTTP/1 head: `name: value` and the line's end.
    lined: bool,
}

/// Whether a header's text is one line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lined {
    Yes,
    No,
}

const SEPARATOR: &[u8; 2] = b": ";
const LINE_END: &[u8; 2] = b"\r\n";

/// An ordered list of headers. Names are kept in lower case; a name may occur any number of times.
///
/// The text holds each header as a line of an HTTP/1 head, so that such a head is read by one copy and written by few.
#[derive(Default, Clone, Debug)]
pub struct Headers {
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// Classes that were ever added: what is not among them need not be looked for.
    seen: Classes,
    /// The names as they came, where that is asked for.
    spelled: Option<Box<Spelled>>,
}

impl Headers {
    /// Empties the list and keeps its memory, unless one message made it unusually large.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.seen = Classes::default();
        self.spelled = None;
        if self.text.capacity() > 8192 {
            self.text.shrink_to(1024);
            self.entries.shrink_to(16);
        }
    }

    /// Adds text that is not a header (a path, an authority) and returns where it is.
    pub fn put(&mut self, text: &[u8]) -> Span {
        let at = self.text.len() as u32;
        self.text.extend_from_slice(text);
        Span { at, len: text.len() as u32 }
    }

    pub fn text(&self, span: Span) -> &[u8] {
        &self.text[span.range()]
    }

    /// All text put so far; spans index it.
    pub fn all_text(&self) -> &[u8] {
        &self.text
    }

    /// Adds a header at the end; the name is lower-cased here.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let (name, value) = self.put_line(name, value);
        let known = self.classify(name);
        self.enter(known, name, value, Lined::Yes);
    }

    fn put_line(&mut self, name: &[u8], value: &[u8]) -> (Span, Span) {
        self.text.reserve(name.len() + value.len() + SEPARATOR.len() + LINE_END.len());
        let name = self.put(name);
        self.text.extend_from_slice(SEPARATOR);
        let value = self.put(value);
        self.text.extend_from_slice(LINE_END);
        (name, value)
    }

    /// Adds a header whose name and value are in the text already, as a line of an HTTP/1 head.
    pub(crate) fn push_spans(&mut self, name: Span, value: Span) {
        let (name_end, value_end) = (name.range().end, value.range().end);
        let lined = value.range().start == name_end + SEPARATOR.len()
            && self.text[name_end..].starts_with(SEPARATOR)
            && self.text[value_end..].starts_with(LINE_END);
        let known = self.classify(name);
        self.enter(known, name, value, if lined { Lined::Yes } else { Lined::No });
    }

    /// Makes a name's letters small; its class.
    fn classify(&mut self, name: Span) -> Known {
        let text = &mut self.text[name.range()];
        lower(text);
        Known::of(text)
    }

    fn enter(&mut self, known: Known, name: Span, value: Span, lined: Lined) {
        self.seen.add(known);
        self.entries.push(Entry { name, value, known, live: true, lined: lined == Lined::Yes });
    }

    /// Adds a header whose name is in lower case and was classified before.
    pub fn push_known(&mut self, known: Known, name: &[u8], value: &[u8]) {
        let (name, value) = self.put_line(name, value);
        self.enter(known, name, value, Lined::Yes);
    }

    /// Makes room for a head of this size, and for what a proxy adds to it, at once instead of in steps.
    pub(crate) fn reserve_for(&mut self, bytes: usize, fields: usize) {
        self.text.reserve(bytes + 256);
        self.entries.reserve(fields + 8);
    }

    /// Makes room for an ordinary head at once instead of in steps.
    pub fn reserve(&mut self) {
        self.text.reserve(512);
        self.entries.reserve(16);
    }

    /// The first value of a lower-case name.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let known = Known::of(name);
        if !matches!(known, Known::Other | Known::Internal) {
            return self.known(known);
        }
        self.of_class(known).find(|e| self.text(e.name) == name).map(|e| self.text(e.value))
    }

    /// Every value of a lower-case name, in order.
    pub fn values<'s, 'n>(&'s self, name: &'n [u8]) -> impl Iterator<Item = &'s [u8]> + use<'s, 'n> {
        self.of_class(Known::of(name)).filter(move |e| self.text(e.name) == name).map(|e| self.text(e.value))
    }

    /// The first value of a known name.
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        self.of_class(known).next().map(|e| self.text(e.value))
    }

    /// Every value of a known name.
    pub fn all_known(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.of_class(known).map(|e| self.text(e.value))
    }

    /// Where the values of a known name are in the text.
    pub fn known_spans(&self, known: Known) -> impl Iterator<Item = Span> {
        self.of_class(known).map(|e| e.value)
    }

    /// Whether every header of a known name stands in its line as we would write it: one space or none behind the colon,
    /// nothing behind the value. For heads that were read from HTTP/1 lines.
    pub(crate) fn plainly_spaced(&self, known: Known) -> bool {
        // An empty value may lie anywhere.
        self.of_class(known).filter(|e| !e.value.is_empty()).all(|e| {
            let before = &self.text[e.name.range().end..e.value.range().start];
            let behind = &self.text[e.value.range().end..];
            matches!(before, b":" | b": ") && behind.starts_with(LINE_END)
        })
    }

    pub fn has(&self, known: Known) -> bool {
        self.of_class(known).next().is_some()
    }

    /// Whether a header of one of these classes was ever added. It may have been removed since.
    pub fn had(&self, classes: Classes) -> bool {
        self.seen.meets(classes)
    }

    fn of_class(&self, known: Known) -> impl Iterator<Item = &Entry> {
        let entries: &[Entry] = if self.seen.contains(known) { &self.entries } else { &[] };
        entries.iter().filter(move |e| e.known == known && e.live)
    }

    pub fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// Removes every header of a lower-case name; says whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let known = Known::of(name);
        if !self.seen.contains(known) {
            return false;
        }
        let text = &self.text;
        let mut found = false;
        for e in self.entries.iter_mut().filter(|e| e.known == known && e.live && &text[e.name.range()] == name) {
            e.live = false;
            found = true;
        }
        found
    }

    pub fn remove_known(&mut self, known: Known) -> bool {
        if !self.seen.contains(known) {
            return false;
        }
        let mut found = false;
        for e in self.entries.iter_mut().filter(|e| e.live && e.known == known) {
            e.live = false;
            found = true;
        }
        found
    }

    /// Removes every header for which `drop` is true of (class, name, value).
    pub fn remove_where(&mut self, mut drop: impl FnMut(Known, &[u8], &[u8]) -> bool) {
        let text = &self.text;
        for e in self.entries.iter_mut().filter(|e| e.live) {
            e.live = !drop(e.known, &text[e.name.range()], &text[e.value.range()]);
        }
    }

    /// Makes `value` the only value of `name`, at the place of the first one there was.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let known = Known::of(name);
        if known != Known::Other && !self.seen.contains(known) {
            return self.push(name, value);
        }
        let text = &self.text;
        // A name with capital letters has no class of its own.
        let may_be = |e: &Entry| e.live && (e.known == known || known == Known::Other);
        let is = |e: &Entry| may_be(e) && text[e.name.range()].eq_ignore_ascii_case(name);
        let mut same = self.entries.iter_mut().filter(|e| is(e));
        let Some(first) = same.next() else { return self.push(name, value) };
        same.for_each(|e| e.live = false);
        (first.value, first.lined) = (Span { at: text.len() as u32, len: value.len() as u32 }, false);
        self.text.extend_from_slice(value);
    }

    /// Appends `,value` to the header of that name, joined where it came several times, or adds the header.
    pub fn append_csv(&mut self, name: &[u8], value: &[u8]) {
        self.append_by(b",", name, value);
    }

    /// The same with another separator before the value.
    pub fn append_by(&mut self, separator: &[u8], name: &[u8], value: &[u8]) {
        self.join(name);
        match self.get(name) {
            Some(old) => {
                let joined = [old, separator, value].concat();
                self.set(name, &joined);
            }
            None => self.push(name, value),
        }
    }

    /// Makes one header of those with this name, their values joined by commas (RFC 9110 §5.3).
    pub fn join(&mut self, name: &[u8]) {
        let known = Known::of(name);
        if known != Known::Other && self.of_class(known).nth(1).is_none() {
            return;
        }
        let same = |other: &[u8]| other.eq_ignore_ascii_case(name);
        let values: Vec<&[u8]> = self.iter().filter(|(_, n, _)| same(n)).map(|(_, _, value)| value).collect();
        if values.len() > 1 {
            let joined = values.join(&b","[..]);
            self.set(name, &joined);
        }
    }

    /// (class, name, value) of every header, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.live().map(|e| (e.known, self.text(e.name), self.text(e.value)))
    }

    /// (class, name, value) as spans, for those who share the text without copying it.
    pub fn spans(&self) -> impl Iterator<Item = (Known, Span, Span)> {
        self.live().map(|e| (e.known, e.name, e.value))
    }

    /// Appends the lines of an HTTP/1 head, of those classes for which `keep` is true. Neighbours leave by one copy.
    pub(crate) fn write_lines(&self, out: &mut Vec<u8>, spelling: Spelling<'_>, keep: impl Fn(Known) -> bool) {
        if !spelling.is_lower() {
            return self.write_spelled(out, spelling, keep);
        }
        let mut run = 0..0;
        for e in self.live().filter(|e| keep(e.known)) {
            let line = e.name.range().start..e.value.range().end + LINE_END.len();
            if e.lined && line.start == run.end {
                run.end = line.end;
                continue;
            }
            out.extend_from_slice(&self.text[run]);
            if e.lined {
                run = line;
                continue;
            }
            run = 0..0;
            for piece in [self.text(e.name), SEPARATOR, self.text(e.value), LINE_END] {
                out.extend_from_slice(piece);
            }
        }
        out.extend_from_slice(&self.text[run]);
    }

    fn write_spelled(&self, out: &mut Vec<u8>, spelling: Spelling<'_>, keep: impl Fn(Known) -> bool) {
        for e in self.live().filter(|e| keep(e.known)) {
            spelling.write(out, self.text(e.name));
            for piece in [SEPARATOR, self.text(e.value), LINE_END] {
                out.extend_from_slice(piece);
            }
        }
    }

    /// Remembers how the names came.
    pub(crate) fn keep_spelling(&mut self, spelled: Spelled) {
        self.spelled = Some(Box::new(spelled));
    }

    /// How the names came, where that was to be kept.
    pub(crate) fn spelled(&self) -> Option<&Spelled> {
        self.spelled.as_deref()
    }

    pub fn len(&self) -> usize {
        self.live().count()
    }

    pub fn is_empty(&self) -> bool {
        self.live().next().is_none()
    }

    /// Bytes of names and values, as size limits and metrics count them.
    pub fn byte_size(&self) -> usize {
        self.live().map(|e| e.name.len() + e.value.len()).sum()
    }

    fn live(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|e| e.live)
    }
}

/// Makes letters small, eight bytes at a time: names are too short for the compiler's own way to be quick.
fn lower(text: &mut [u8]) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let (words, rest) = text.as_chunks_mut::<8>();
    for word in words {
        let bytes = u64::from_le_bytes(*word);
        let low = bytes & !HIGH;
        // The high bit of each sum tells whether the byte is at least `A`, and whether it is past `Z`.
        let letters = (low + (0x80 - 0x41) * ONES) & !(low + (0x80 - 0x5b) * ONES) & !bytes & HIGH;
        *word = (bytes | letters >> 2).to_le_bytes();
    }
    rest.make_ascii_lowercase();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::Case;

    fn list(h: &Headers) -> Vec<(String, String)> {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        h.iter().map(|(_, n, v)| (text(n), text(v))).collect()
    }

    #[test]
    fn set_keeps_the_first_place_and_drops_repeats() {
        let mut h = Headers::default();
        for (n, v) in [("A", "1"), ("b", "2"), ("a", "3")] {
            h.push(n.as_bytes(), v.as_bytes());
        }
        h.set(b"a", b"4");
        assert_eq!(list(&h), [("a".into(), "4".into()), ("b".into(), "2".into())]);
        h.set(b"c", b"5");
        assert_eq!(h.get(b"c"), Some(&b"5"[..]));
    }

    #[test]
    fn letters_and_nothing_else_become_small() {
        for shift in 0..9 {
            let text: Vec<u8> = (0..=255).cycle().skip(shift).take(256 + shift).collect();
            let mut lowered = text.clone();
            lower(&mut lowered);
            assert_eq!(lowered, text.to_ascii_lowercase());
        }
    }

    #[test]
    fn lines_are_those_of_the_list() {
        let mut h = Headers::default();
        for (n, v) in [("A", "1"), ("b", ""), ("host", "h"), ("c", "3"), ("d", "4")] {
            h.push(n.as_bytes(), v.as_bytes());
        }
        h.set(b"c", b"5");
        h.remove(b"a");
        h.push(b"a", b"6");
        let mut out = Vec::new();
        h.write_lines(&mut out, Spelling::of(None, Case::Lower), |known| known != Known::Host);
        assert_eq!(String::from_utf8_lossy(&out), "b: \r\nc: 5\r\nd: 4\r\na: 6\r\n");
    }

    #[test]
    fn what_was_removed_is_not_found_by_its_class() {
        let mut h = Headers::default();
        h.push(b"Connection", b"close");
        assert!(h.has(Known::Connection) && h.had(Classes::of(&[Known::Te, Known::Connection])));
        assert!(h.remove_known(Known::Connection) && !h.has(Known::Connection) && !h.remove_known(Known::Te));
        h.set(b"connection", b"x");
        assert_eq!(h.get(b"connection"), Some(&b"x"[..]));
        h.clear();
        assert!(!h.had(Classes::of(&[Known::Connection])) && h.get(b"connection").is_none());
    }

    #[test]
    fn append_joins_with_a_comma() {
        let mut h = Headers::default();
        h.append_csv(b"x-forwarded-for", b"10.0.0.1");
        h.push(b"x-forwarded-for", b"10.0.0.9");
        h.append_csv(b"x-forwarded-for", b"10.0.0.2");
        assert_eq!(h.known(Known::XForwardedFor), Some(&b"10.0.0.1,10.0.0.9,10.0.0.2"[..]));
        assert_eq!(h.len(), 1);
    }
}

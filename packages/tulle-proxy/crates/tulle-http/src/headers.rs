//! Header lists of one message: names and values as offsets into one text that is reused from message to message.

/// Names the data path looks at itself; classified once, when a header is added, so that no later step compares text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Known {
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Upgrade,
    Te,
    Trailer,
    Expect,
    Http2Settings,
    ContentType,
    UserAgent,
    Cookie,
    Server,
    Date,
    GrpcStatus,
    GrpcTimeout,
    GrpcMessage,
    XForwardedFor,
    XForwardedProto,
    XRequestId,
    Internal,
}

impl Known {
    const ALL: [Known; 24] = [
        Known::Other,
        Known::Host,
        Known::ContentLength,
        Known::TransferEncoding,
        Known::Connection,
        Known::KeepAlive,
        Known::ProxyConnection,
        Known::Upgrade,
        Known::Te,
        Known::Trailer,
        Known::Expect,
        Known::Http2Settings,
        Known::ContentType,
        Known::UserAgent,
        Known::Cookie,
        Known::Server,
        Known::Date,
        Known::GrpcStatus,
        Known::GrpcTimeout,
        Known::GrpcMessage,
        Known::XForwardedFor,
        Known::XForwardedProto,
        Known::XRequestId,
        Known::Internal,
    ];

    /// The class whose number (`as u8`) this is.
    pub fn from_number(number: u8) -> Known {
        Known::ALL.get(usize::from(number)).copied().unwrap_or(Known::Other)
    }

    /// The class of a lower-case name.
    pub fn of(name: &[u8]) -> Known {
        match name {
            b"host" => Known::Host,
            b"content-length" => Known::ContentLength,
            b"transfer-encoding" => Known::TransferEncoding,
            b"connection" => Known::Connection,
            b"keep-alive" => Known::KeepAlive,
            b"proxy-connection" => Known::ProxyConnection,
            b"upgrade" => Known::Upgrade,
            b"te" => Known::Te,
            b"trailer" => Known::Trailer,
            b"expect" => Known::Expect,
            b"http2-settings" => Known::Http2Settings,
            b"content-type" => Known::ContentType,
            b"user-agent" => Known::UserAgent,
            b"cookie" => Known::Cookie,
            b"server" => Known::Server,
            b"date" => Known::Date,
            b"grpc-status" => Known::GrpcStatus,
            b"grpc-timeout" => Known::GrpcTimeout,
            b"grpc-message" => Known::GrpcMessage,
            b"x-forwarded-for" => Known::XForwardedFor,
            b"x-forwarded-proto" => Known::XForwardedProto,
            b"x-request-id" => Known::XRequestId,
            _ if name.starts_with(b"x-envoy-") => Known::Internal,
            _ => Known::Other,
        }
    }
}

/// A piece of the text of a [`Headers`].
#[derive(Clone, Copy, Default, Debug)]
pub struct Span {
    at: u32,
    len: u32,
}

impl Span {
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
}

/// An ordered list of headers. Names are kept in lower case; a name may occur any number of times.
#[derive(Default, Clone, Debug)]
pub struct Headers {
    text: Vec<u8>,
    entries: Vec<Entry>,
}

impl Headers {
    /// Empties the list and keeps its memory, unless one message made it unusually large.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
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
        let at = self.text.len() as u32;
        self.text.extend(name.iter().map(u8::to_ascii_lowercase));
        let name_span = Span { at, len: name.len() as u32 };
        let known = Known::of(&self.text[name_span.range()]);
        let value = self.put(value);
        self.entries.push(Entry { name: name_span, value, known, live: true });
    }

    /// Adds a header whose name is in lower case and was classified before.
    pub fn push_known(&mut self, known: Known, name: &[u8], value: &[u8]) {
        let name = self.put(name);
        let value = self.put(value);
        self.entries.push(Entry { name, value, known, live: true });
    }

    /// Makes room for an ordinary head at once instead of in steps.
    pub fn reserve(&mut self) {
        self.text.reserve(512);
        self.entries.reserve(16);
    }

    /// The first value of a lower-case name.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.live().find(|e| self.text(e.name) == name).map(|e| self.text(e.value))
    }

    /// Every value of a lower-case name, in order.
    pub fn values<'s, 'n>(&'s self, name: &'n [u8]) -> impl Iterator<Item = &'s [u8]> + use<'s, 'n> {
        self.live().filter(move |e| self.text(e.name) == name).map(|e| self.text(e.value))
    }

    /// The first value of a known name.
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        self.live().find(|e| e.known == known).map(|e| self.text(e.value))
    }

    /// Every value of a known name.
    pub fn all_known(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.live().filter(move |e| e.known == known).map(|e| self.text(e.value))
    }

    /// Where the values of a known name are in the text.
    pub fn known_spans(&self, known: Known) -> impl Iterator<Item = Span> {
        self.live().filter(move |e| e.known == known).map(|e| e.value)
    }

    pub fn has(&self, known: Known) -> bool {
        self.live().any(|e| e.known == known)
    }

    pub fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// Removes every header of a lower-case name; says whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let text = &self.text;
        let mut found = false;
        for e in self.entries.iter_mut().filter(|e| e.live && &text[e.name.range()] == name) {
            e.live = false;
            found = true;
        }
        found
    }

    pub fn remove_known(&mut self, known: Known) -> bool {
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
        let value_span = self.put(value);
        let text = &self.text;
        let mut placed = false;
        for e in self.entries.iter_mut().filter(|e| e.live) {
            let same = text[e.name.range()].eq_ignore_ascii_case(name);
            match (same, placed) {
                (true, false) => {
                    e.value = value_span;
                    placed = true;
                }
                (true, true) => e.live = false,
                (false, _) => {}
            }
        }
        if !placed {
            self.push(name, value);
        }
    }

    /// Appends `, value` to the first header of that name, or adds the header.
    pub fn append_csv(&mut self, name: &[u8], value: &[u8]) {
        match self.get(name) {
            Some(old) => {
                let joined = [old, b",", value].concat();
                self.set(name, &joined);
            }
            None => self.push(name, value),
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn every_class_has_its_number() {
        for (number, known) in Known::ALL.iter().enumerate() {
            assert_eq!(*known as usize, number);
            assert_eq!(Known::from_number(number as u8), *known);
        }
        assert_eq!(Known::ALL.len() - 1, Known::Internal as usize);
    }

    #[test]
    fn append_joins_with_a_comma() {
        let mut h = Headers::default();
        h.append_csv(b"x-forwarded-for", b"10.0.0.1");
        h.append_csv(b"x-forwarded-for", b"10.0.0.2");
        assert_eq!(h.known(Known::XForwardedFor), Some(&b"10.0.0.1,10.0.0.2"[..]));
        assert_eq!(h.len(), 1);
    }
}

//! A head as the engine decodes it: already in the form in which it is worked with.

use tulle_h2::{Fields, Pseudo};

use crate::headers::{Headers, Known, Span};

/// A request's or response's head, or trailers.
#[derive(Default)]
pub struct Arrived {
    pub headers: Headers,
    pub method: Span,
    pub path: Span,
    pub authority: Span,
    pub has_authority: bool,
    pub secure: bool,
    pub protocol: Option<Span>,
    pub status: u16,
    /// Cookie crumbs (RFC 9113 §8.2.3), joined, when there are several.
    crumbs: Vec<u8>,
}

impl Fields for Arrived {
    fn class(name: &[u8]) -> u8 {
        Known::of(name) as u8
    }

    fn pseudo(&mut self, which: Pseudo, value: &[u8]) {
        if self.headers.all_text().is_empty() {
            self.headers.reserve();
        }
        match which {
            Pseudo::Method => self.method = self.headers.put(value),
            Pseudo::Path => self.path = self.headers.put(value),
            Pseudo::Authority => {
                self.authority = self.headers.put(value);
                self.has_authority = true;
            }
            Pseudo::Protocol => self.protocol = Some(self.headers.put(value)),
            Pseudo::Scheme => self.secure = value == b"https",
            Pseudo::Status => self.status = value.iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0')),
        }
    }

    fn field(&mut self, class: u8, name: &[u8], value: &[u8]) {
        let known = Known::from_number(class);
        if known == Known::Cookie
            && let Some(first) = self.headers.known(Known::Cookie)
        {
            if self.crumbs.is_empty() {
                self.crumbs.extend_from_slice(first);
            }
            self.crumbs.extend_from_slice(b"; ");
            self.crumbs.extend_from_slice(value);
            return;
        }
        self.headers.push_known(known, name, value);
    }

    fn complete(&mut self) {
        if !self.crumbs.is_empty() {
            let crumbs = std::mem::take(&mut self.crumbs);
            self.headers.set(b"cookie", &crumbs);
        }
    }

    fn clear(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = Arrived { headers, ..Arrived::default() };
    }
}

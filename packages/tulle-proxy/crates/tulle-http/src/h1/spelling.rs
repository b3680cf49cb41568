//! The case of header names on HTTP/1 connections: lower, by words, or as the message came with them.

/// How a connection writes names that no message came with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Case {
    #[default]
    Lower,
    /// The first letter, and each behind something that is neither letter nor digit, is a capital.
    Words,
}

/// What becomes of the case in which names come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reading {
    #[default]
    Fold,
    /// It is kept beside the names, for when the message is written to an HTTP/1 connection; other names are in this case.
    Keep(Case),
}

/// The names of one head as they came.
#[derive(Clone, Debug)]
pub struct Spelled {
    /// One behind another; no name has a line feed in it.
    names: Vec<u8>,
    others: Case,
}

impl Spelled {
    pub fn new(others: Case) -> Spelled {
        Spelled { names: Vec::new(), others }
    }

    pub fn note(&mut self, name: &[u8]) {
        self.names.extend_from_slice(name);
        self.names.push(b'\n');
    }

    /// The first spelling that a name came in.
    fn find(&self, name: &[u8]) -> Option<&[u8]> {
        self.names.split(|byte| *byte == b'\n').find(|known| known.eq_ignore_ascii_case(name))
    }
}

/// How the names of one head are written.
#[derive(Clone, Copy)]
pub struct Spelling<'h> {
    kept: Option<&'h Spelled>,
    case: Case,
}

impl<'h> Spelling<'h> {
    /// What came with the head counts; `case` is the connection's.
    pub fn of(kept: Option<&'h Spelled>, case: Case) -> Spelling<'h> {
        Spelling { kept, case: kept.map_or(case, |kept| kept.others) }
    }

    /// Whether names stay in lower case.
    pub fn is_lower(self) -> bool {
        self.kept.is_none() && self.case == Case::Lower
    }

    /// Appends a lower-case name.
    pub fn write(self, out: &mut Vec<u8>, name: &[u8]) {
        match (self.kept.and_then(|kept| kept.find(name)), self.case) {
            (Some(known), _) => out.extend_from_slice(known),
            (None, Case::Lower) => out.extend_from_slice(name),
            (None, Case::Words) => {
                let mut first = true;
                out.extend(name.iter().map(|byte| {
                    let written = if first { byte.to_ascii_uppercase() } else { *byte };
                    first = !byte.is_ascii_alphanumeric();
                    written
                }));
            }
        }
    }

    /// Appends a line, or its beginning, whose name is in lower case.
    pub fn line(self, out: &mut Vec<u8>, line: &[u8]) {
        if self.is_lower() {
            return out.extend_from_slice(line);
        }
        let (name, rest) = line.split_at(memchr::memchr(b':', line).unwrap_or(0));
        self.write(out, name);
        out.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(spelling: Spelling<'_>, name: &str) -> String {
        let mut out = Vec::new();
        spelling.line(&mut out, format!("{name}: x").as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn words_begin_with_capitals() {
        let words = Spelling::of(None, Case::Words);
        for (name, expected) in [("content-type", "Content-Type"), ("foo$b#$are", "Foo$B#$Are"), ("x-1a-", "X-1a-")] {
            assert_eq!(written(words, name), format!("{expected}: x"));
        }
        assert_eq!(written(Spelling::of(None, Case::Lower), "content-type"), "content-type: x");
    }

    #[test]
    fn names_that_came_keep_their_first_spelling() {
        let mut spelled = Spelled::new(Case::Lower);
        for name in ["ETag", "X-aBc", "X-ABC"] {
            spelled.note(name.as_bytes());
        }
        let kept = Spelling::of(Some(&spelled), Case::Words);
        for (name, expected) in [("etag", "ETag"), ("x-abc", "X-aBc"), ("x-other", "x-other")] {
            assert_eq!(written(kept, name), format!("{expected}: x"));
        }
        spelled.others = Case::Words;
        assert_eq!(written(Spelling::of(Some(&spelled), Case::Lower), "x-other"), "X-Other: x");
    }
}

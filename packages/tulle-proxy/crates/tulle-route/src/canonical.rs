//! Paths in one form: what is authorized is what is routed and forwarded, whichever way a client wrote it.

use std::borrow::Cow;

/// How the path is rewritten before anything matches on it (RFC 3986 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathHandling {
    pub normalize: bool,
    pub merge_slashes: bool,
    pub escaped_slashes: EscapedSlashes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    #[default]
    KeepUnchanged,
    Reject,
    UnescapeAndRedirect,
    UnescapeAndForward,
}

/// What becomes of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Canonical {
    Same,
    /// Path and query as they go on.
    Changed(Vec<u8>),
    /// The client is sent to this path and query.
    Elsewhere(Vec<u8>),
    Refused,
}

/// The canonical form of `full`, a path with its query; `*` and the empty path of CONNECT are none and stay. Done twice it
/// changes nothing more.
pub fn path(handling: PathHandling, full: &[u8]) -> Canonical {
    if full == b"*" || full.is_empty() {
        return Canonical::Same;
    }
    let end = full.iter().position(|b| *b == b'?').unwrap_or(full.len());
    let (path, query) = full.split_at(end);
    if is_plain(path) {
        return Canonical::Same;
    }
    let escaped = handling.escaped_slashes != EscapedSlashes::KeepUnchanged && has_escaped_slash(path);
    let unescaped = match handling.escaped_slashes {
        EscapedSlashes::Reject if escaped => return Canonical::Refused,
        EscapedSlashes::UnescapeAndRedirect | EscapedSlashes::UnescapeAndForward if escaped => {
            Cow::Owned(unescape_slashes(path))
        }
        _ => Cow::Borrowed(path),
    };
    let made = normalized(handling, unescaped.into_owned());
    match handling.escaped_slashes {
        // A location that begins with two slashes would name another host.
        EscapedSlashes::UnescapeAndRedirect if escaped => {
            let below = made.iter().position(|b| !matches!(b, b'/' | b'\\')).unwrap_or(made.len());
            Canonical::Elsewhere([b"/", &made[below..], query].concat())
        }
        _ if made == path => Canonical::Same,
        _ => Canonical::Changed([&made, query].concat()),
    }
}

/// Nothing in it that normalization, merging or unescaping could change: nearly every path.
fn is_plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    for byte in path {
        if matches!(byte, b'%' | b'\\') || (after_slash && matches!(byte, b'/' | b'.')) {
            return false;
        }
        after_slash = *byte == b'/';
    }
    true
}

fn normalized(handling: PathHandling, path: Vec<u8>) -> Vec<u8> {
    let mut path = path;
    if handling.normalize {
        path = decode_unreserved(&path);
        if path.contains(&b'\\') {
            path.iter_mut().filter(|b| **b == b'\\').for_each(|b| *b = b'/');
        }
        path = remove_dots(&path);
    }
    if handling.merge_slashes {
        path.dedup_by(|b, a| *a == b'/' && *b == b'/');
    }
    path
}

fn has_escaped_slash(path: &[u8]) -> bool {
    path.windows(3).any(is_escaped_slash)
}

fn is_escaped_slash(w: &[u8]) -> bool {
    w.eq_ignore_ascii_case(b"%2f") || w.eq_ignore_ascii_case(b"%5c")
}

fn unescape_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        match path.get(at..at + 3) {
            Some(w) if is_escaped_slash(w) => {
                out.push(if w[1] == b'2' { b'/' } else { b'\\' });
                at += 3;
            }
            _ => {
                out.push(path[at]);
                at += 1;
            }
        }
    }
    out
}

/// Decodes percent-encoded unreserved characters (RFC 3986 §6.2.2.2): `%2e%2e` is `..`. What is decoded behind a stray
/// `%` must not become an encoding for whoever decodes next, so such a `%` is encoded itself: `%%32e` is `%252e`.
fn decode_unreserved(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut stray = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let encoded = encoded(&path[at..]);
        match encoded {
            Some(b) if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => {
                out.push(b);
                at += 3;
            }
            _ => {
                if path[at] == b'%' && encoded.is_none() {
                    stray.push(out.len());
                }
                out.push(path[at]);
                at += 1;
            }
        }
    }
    for at in stray.into_iter().rev().filter(|at| encoded(&out[*at..]).is_some()).collect::<Vec<_>>() {
        out.splice(at..=at, *b"%25");
    }
    out
}

/// The byte whose encoding is at the beginning.
fn encoded(path: &[u8]) -> Option<u8> {
    let hex = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    match path {
        [b'%', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
        _ => None,
    }
}

/// Removes dot segments (RFC 3986 §5.2.4).
fn remove_dots(path: &[u8]) -> Vec<u8> {
    if !path.windows(2).any(|w| w == b"/.") {
        return path.to_vec();
    }
    let mut out: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = path.split(|b| *b == b'/').skip(1).collect();
    let last = segments.len() - 1;
    for (at, segment) in segments.iter().enumerate() {
        match *segment {
            b"." | b".." => {
                if *segment == b".." {
                    out.pop();
                }
                if at == last {
                    out.push(b"");
                }
            }
            other => out.push(other),
        }
    }
    let mut made = Vec::with_capacity(path.len());
    for segment in &out {
        made.push(b'/');
        made.extend_from_slice(segment);
    }
    if made.is_empty() { b"/".to_vec() } else { made }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: PathHandling =
        PathHandling { normalize: true, merge_slashes: true, escaped_slashes: EscapedSlashes::UnescapeAndForward };

    fn made(handling: PathHandling, full: &str) -> String {
        match path(handling, full.as_bytes()) {
            Canonical::Same => full.to_owned(),
            Canonical::Changed(path) => String::from_utf8(path).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn dot_segments_and_what_hides_them_go() {
        let plain =
            PathHandling { normalize: true, merge_slashes: false, escaped_slashes: EscapedSlashes::KeepUnchanged };
        for (path, expected) in [
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/%2e%2e/x", "/x"),
            ("/a/%2E%2e/%41", "/A"),
            ("/a%2fb", "/a%2fb"),
            ("/.hidden/..x", "/.hidden/..x"),
            ("/a\\..\\b?c\\d", "/b?c\\d"),
            ("/%%32e%%32e/admin", "/%252e%252e/admin"),
            ("/%2%65%2%65/admin", "/%252e%252e/admin"),
            ("/%%%32e", "/%%252e"),
            ("/%zz%2", "/%zz%2"),
            ("/%252e", "/%252e"),
            ("*", "*"),
        ] {
            assert_eq!(made(plain, path), expected);
        }
        assert_eq!(made(ALL, "/a%2F..%5c/b//c"), "/b/c");
    }

    #[test]
    fn a_redirect_leads_to_no_other_host() {
        let redirect = PathHandling {
            normalize: false,
            merge_slashes: false,
            escaped_slashes: EscapedSlashes::UnescapeAndRedirect,
        };
        for full in ["/%2fevil.example/x", "/%5cevil.example/x", "//%2f\\evil.example/x"] {
            assert_eq!(path(redirect, full.as_bytes()), Canonical::Elsewhere(b"/evil.example/x".to_vec()), "{full}");
        }
        let reject = PathHandling { escaped_slashes: EscapedSlashes::Reject, ..redirect };
        assert_eq!(path(reject, b"/a%2Fb"), Canonical::Refused);
    }

    fn handlings() -> impl Strategy<Value = PathHandling> {
        let slashes = prop::sample::select(vec![
            EscapedSlashes::KeepUnchanged,
            EscapedSlashes::Reject,
            EscapedSlashes::UnescapeAndRedirect,
            EscapedSlashes::UnescapeAndForward,
        ]);
        (any::<bool>(), any::<bool>(), slashes).prop_map(|(normalize, merge_slashes, escaped_slashes)| PathHandling {
            normalize,
            merge_slashes,
            escaped_slashes,
        })
    }

    fn paths() -> impl Strategy<Value = String> {
        let pieces = vec![
            "/", "//", "\\", ".", "..", "%", "%2e", "%2E", "%2f", "%5C", "%25", "2", "e", "f", "%32", "%65", "%66",
            "a", ";", "?",
        ];
        prop::collection::vec(prop::sample::select(pieces), 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn twice_is_as_once_and_nothing_is_hidden(handling in handlings(), full in paths()) {
            let once = match path(handling, full.as_bytes()) {
                Canonical::Same => full.clone().into_bytes(),
                Canonical::Changed(path) | Canonical::Elsewhere(path) => path,
                Canonical::Refused => return Ok(()),
            };
            prop_assert_eq!(path(handling, &once), Canonical::Same);
            let text = String::from_utf8(once).unwrap();
            let (path, query) = text.split_once('?').map_or((&text[..], None), |(path, query)| (path, Some(query)));
            prop_assert_eq!(query, full.split_once('?').map(|(_, query)| query));
            if handling.normalize {
                prop_assert!(!path.split('/').any(|segment| segment == "." || segment == ".."), "{}", path);
                prop_assert!(!path.to_ascii_lowercase().contains("%2e") && !path.contains('\\'), "{}", path);
            }
            prop_assert!(!handling.merge_slashes || !path.contains("//"), "{}", path);
        }
    }
}

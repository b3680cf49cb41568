//! Tells HTTP from other protocols by a connection's first bytes, as Envoy's HTTP inspector does.

/// What the first bytes are, as far as HTTP is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// More bytes are needed.
    Partial,
    Http10,
    Http11,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.4).
    Http2,
    Other,
}

impl Detected {
    /// The application protocol that filter chains match on; `None` for what is not HTTP.
    pub fn application_protocol(self) -> Option<&'static str> {
        match self {
            Detected::Http10 => Some("http/1.0"),
            Detected::Http11 => Some("http/1.1"),
            Detected::Http2 => Some("h2c"),
            Detected::Partial | Detected::Other => None,
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A request line longer than this is taken for something else.
pub const MAX_REQUEST_LINE: usize = 64 * 1024;
/// The longest registered method is UPDATEREDIRECTREF.
const MAX_METHOD: usize = 32;

/// Looks at the bytes received so far, from the first one on.
pub fn detect(bytes: &[u8]) -> Detected {
    let common = bytes.len().min(PREFACE.len());
    if bytes[..common] == PREFACE[..common] {
        return if common == PREFACE.len() { Detected::Http2 } else { Detected::Partial };
    }
    let method = bytes.iter().take_while(|byte| is_token(**byte)).count();
    if method == 0 || method > MAX_METHOD {
        return Detected::Other;
    }
    if method < bytes.len() && bytes[method] != b' ' {
        return Detected::Other;
    }
    let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\0')) else {
        return if bytes.len() > MAX_REQUEST_LINE { Detected::Other } else { Detected::Partial };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    match line {
        _ if line.ends_with(b" HTTP/1.1") => Detected::Http11,
        _ if line.ends_with(b" HTTP/1.0") => Detected::Http10,
        _ => Detected::Other,
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::{Detected, PREFACE, detect};

    #[test]
    fn protocols_are_told_apart() {
        for (bytes, expected) in [
            (&b""[..], Detected::Partial),
            (b"GET", Detected::Partial),
            (b"GET /", Detected::Partial),
            (b"GET / HTTP/1.1\r\n", Detected::Http11),
            (b"get / HTTP/1.1\n", Detected::Http11),
            (b"GET / HTTP/1.0\r\nHost: a\r\n", Detected::Http10),
            (b"GET /\r\n", Detected::Other),
            (b"PRI * HTTP/2.0\r\n\r\n", Detected::Partial),
            (PREFACE, Detected::Http2),
            (b"\x16\x03\x01", Detected::Other),
            (b"\x00\x00\x00\x03", Detected::Other),
            (b"*1\r\n$4\r\nPING\r\n", Detected::Other),
            (b"SSH-2.0-x\r\n", Detected::Other),
            (b"abcdefghijklmnopqrstuvwxyzabcdefghijklmnop", Detected::Other),
        ] {
            assert_eq!(detect(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }
}

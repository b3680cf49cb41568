//! Fields of a head: where they are kept is the caller's affair, what is well-formed is checked here (RFC 9113 §8.2, §8.3).

/// The fields that begin with a colon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
}

/// Where decoded fields go.
pub trait Fields: Default {
    /// What the caller wants to know about a name, found out once per name and table entry instead of once per field.
    fn class(name: &[u8]) -> u8;
    fn pseudo(&mut self, which: Pseudo, value: &[u8]);
    /// A field with a well-formed lower-case name.
    fn field(&mut self, class: u8, name: &[u8], value: &[u8]);
    /// The head is complete.
    fn complete(&mut self);
    /// Makes it empty again, for another head.
    fn clear(&mut self);
}

/// Why a head is no message, although the connection can go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// A name with an upper-case letter or another byte that is no token's, or a connection-specific field.
    Name,
    /// A value with CR, LF, NUL or another control character, or white space around it.
    Value,
    /// A pseudo-header field that is unknown, repeated, late, missing or not of this kind of message.
    Pseudo,
    /// Content-Length is no number, is repeated differently, or is not what the body had.
    Length,
    /// Trailers without the end of the stream, or the end of the stream with an interim response.
    Sequence,
    /// More decoded bytes than we announced.
    TooLarge,
}

/// What a name means to the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Regular,
    Pseudo(Pseudo),
    Te,
    Length,
    Bad(Malformed),
}

/// What is remembered about a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub kind: Kind,
    pub class: u8,
}

impl Meta {
    pub fn of<F: Fields>(name: &[u8]) -> Meta {
        let kind = kind(name);
        let class = if matches!(kind, Kind::Bad(_) | Kind::Pseudo(_)) { 0 } else { F::class(name) };
        Meta { kind, class }
    }

    /// The same for a field with this value.
    pub fn with_value(self, value: &[u8]) -> Meta {
        match self.kind {
            Kind::Bad(_) => self,
            _ if !value_allowed(value) => Meta { kind: Kind::Bad(Malformed::Value), ..self },
            Kind::Te if !value.eq_ignore_ascii_case(b"trailers") => Meta { kind: Kind::Bad(Malformed::Name), ..self },
            _ => self,
        }
    }
}

fn kind(name: &[u8]) -> Kind {
    match name {
        b":method" => Kind::Pseudo(Pseudo::Method),
        b":scheme" => Kind::Pseudo(Pseudo::Scheme),
        b":authority" => Kind::Pseudo(Pseudo::Authority),
        b":path" => Kind::Pseudo(Pseudo::Path),
        b":protocol" => Kind::Pseudo(Pseudo::Protocol),
        b":status" => Kind::Pseudo(Pseudo::Status),
        b"te" => Kind::Te,
        b"content-length" => Kind::Length,
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" | b"http2-settings" => {
            Kind::Bad(Malformed::Name)
        }
        [b':', ..] => Kind::Bad(Malformed::Pseudo),
        _ if !name.is_empty() && name.iter().all(|b| name_byte(*b)) => Kind::Regular,
        _ => Kind::Bad(Malformed::Name),
    }
}

/// A token's bytes (RFC 9110 §5.6.2) without upper-case letters.
fn name_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'
        | b'_' | b'`' | b'|' | b'~')
}

fn value_allowed(value: &[u8]) -> bool {
    let white = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    // Neither cut short nor branching, so that it is done many bytes at a time.
    let control = |b: u8| ((b < b' ') & (b != b'\t')) | (b == 0x7f);
    !white(value.first()) && !white(value.last()) && !value.iter().fold(false, |bad, b| bad | control(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "x-request-id", "x_y", "grpc-status", "0"] {
            assert_eq!(kind(good.as_bytes()), Kind::Regular, "{good}");
        }
        for bad in ["", "A", "x y", "a\0", "a:", "caf\u{e9}", "connection", "upgrade", "transfer-encoding"] {
            assert_eq!(kind(bad.as_bytes()), Kind::Bad(Malformed::Name), "{bad}");
        }
        assert_eq!(kind(b":other"), Kind::Bad(Malformed::Pseudo));
    }

    #[test]
    fn values() {
        for good in ["", "a", "a b", "a\tb", "caf\u{e9}"] {
            assert!(value_allowed(good.as_bytes()), "{good}");
        }
        for bad in [" a", "a ", "\ta", "a\r", "a\nb", "a\0b", "\x7f", "\x01"] {
            assert!(!value_allowed(bad.as_bytes()), "{bad:?}");
        }
    }
}

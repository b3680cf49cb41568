//! Bytes of a head to a [`RequestHead`] or [`ResponseHead`]; tokenizing is httparse's, the refusals are ours.

use std::mem::MaybeUninit;

use super::spelling::Spelled;
use super::{Http10, Limits, Reading, Refused, Underscores};
use crate::head::{Framing, RequestHead, ResponseHead, To, Tunnel, Version, bodiless};
use crate::headers::{Headers, Known, Span};

/// No configuration may allow more headers than this.
pub const MAX_HEADERS: usize = 128;

/// Finds the end of a head, looking at each byte once however slowly they come.
#[derive(Default, Clone, Copy, Debug)]
pub struct HeadScan {
    /// First byte not looked at yet.
    seen: usize,
    /// Where the current line begins.
    line: usize,
    /// The start line is complete.
    started: bool,
}

impl HeadScan {
    /// `Some(n)` when the first `n` bytes are a whole head (with its empty line). Every line must end in CRLF.
    /// Empty lines before the start line count as part of the head (RFC 9112 §2.2).
    pub fn advance(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<usize>, Refused> {
        // What cannot begin a request or status line need not wait for its end: TLS, for instance.
        if self.seen == 0 && buf.first().is_some_and(|b| !b.is_ascii_graphic() && !matches!(b, b'\r' | b'\n')) {
            return Err(Refused::Syntax);
        }
        while let Some(found) = memchr::memchr(b'\n', &buf[self.seen..]) {
            let at = self.seen + found;
            if at == 0 || buf[at - 1] != b'\r' {
                return Err(Refused::LineEnding);
            }
            let empty = at - 1 == self.line;
            if !self.started && at > limits.line_bytes {
                return Err(Refused::LongTarget);
            }
            self.seen = at + 1;
            self.line = at + 1;
            match (empty, self.started) {
                (true, true) => return self.whole(limits),
                (true, false) if at > 8 => return Err(Refused::Syntax),
                (false, false) => self.started = true,
                _ => {}
            }
        }
        self.seen = buf.len();
        if !self.started && buf.len() > limits.line_bytes {
            return Err(Refused::LongTarget);
        }
        if buf.len() > limits.head_bytes {
            return Err(Refused::LargeHead);
        }
        Ok(None)
    }

    fn whole(&self, limits: &Limits) -> Result<Option<usize>, Refused> {
        if self.seen > limits.head_bytes { Err(Refused::LargeHead) } else { Ok(Some(self.seen)) }
    }
}

fn refusal(e: httparse::Error) -> Refused {
    match e {
        httparse::Error::TooManyHeaders => Refused::LargeHead,
        httparse::Error::NewLine => Refused::LineEnding,
        _ => Refused::Syntax,
    }
}

/// Whether a request line has three words of which the last names a version, be it one that nobody knows.
fn names_version(buf: &[u8]) -> bool {
    let line = buf.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(_), Some(_), Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None) => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

/// Parses a whole request head, as found by [`HeadScan`], into `out` (which is cleared first).
pub fn request(buf: &[u8], limits: &Limits, out: &mut RequestHead) -> Result<(), Refused> {
    out.clear();
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let room = &mut room[..limits.headers.min(MAX_HEADERS)];
    let mut parsed = httparse::Request::new(&mut []);
    let complete = parsed.parse_with_uninit_headers(buf, room).map_err(|e| match e {
        httparse::Error::Version if names_version(buf) => Refused::Version,
        other => refusal(other),
    })?;
    match complete {
        httparse::Status::Complete(n) if n == buf.len() => {}
        _ => return Err(Refused::Syntax),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refused::Syntax);
    };
    out.version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    if out.version == Version::Http10 && limits.http10 == Http10::Refuse {
        return Err(Refused::Version);
    }
    if !method_allowed(method.as_bytes()) {
        return Err(Refused::Method);
    }
    let place = copy_headers(buf, parsed.headers, limits, &mut out.headers)?;
    out.set_method_span(place.span(method.as_bytes()));
    set_target(target.as_bytes(), place.span(target.as_bytes()), limits.http10, out)?;
    set_connection(out);
    out.framing = request_framing(out)?;
    if out.framing != Framing::None {
        if out.tunnel == Tunnel::Connect {
            return Err(Refused::Method);
        }
        // A body behind a request to switch could be read as the tunnel's first bytes. An upgrade may be ignored
        // (RFC 9110 §7.8), so such a request is one without.
        out.tunnel = Tunnel::No;
    }
    Ok(())
}

/// Parses a whole response head into `out` (which is cleared first).
pub fn response(buf: &[u8], limits: &Limits, to: To, out: &mut ResponseHead) -> Result<(), Refused> {
    out.clear();
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let room = &mut room[..limits.headers.min(MAX_HEADERS)];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, buf, room)
        .map_err(refusal)?;
    match status {
        httparse::Status::Complete(n) if n == buf.len() => {}
        _ => return Err(Refused::Syntax),
    }
    let (Some(code), Some(minor)) = (parsed.code, parsed.version) else { return Err(Refused::Syntax) };
    if !(100..=999).contains(&code) {
        return Err(Refused::Syntax);
    }
    out.status = code;
    out.version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    copy_headers(buf, parsed.headers, limits, &mut out.headers)?;
    let asks = connection_asks(&out.headers);
    out.close = asks.close || (out.version == Version::Http10 && !asks.keep_alive);
    out.framing = response_framing(out, to)?;
    Ok(())
}

/// A head's bytes and where their copy begins in the list's text.
struct Place<'b> {
    buf: &'b [u8],
    at: usize,
}

impl Place<'_> {
    /// Where a piece of the head is in the list's text.
    fn span(&self, piece: &[u8]) -> Span {
        let offset = piece.as_ptr() as usize - self.buf.as_ptr() as usize;
        Span::new(self.at + offset, piece.len())
    }
}

/// Takes the whole head over in one copy; the fields are places in it.
fn copy_headers<'b>(
    buf: &'b [u8],
    from: &[httparse::Header<'b>],
    limits: &Limits,
    to: &mut Headers,
) -> Result<Place<'b>, Refused> {
    to.reserve_for(buf.len(), from.len());
    let place = Place { buf, at: to.put(buf).range().start };
    if let Reading::Keep(others) = limits.names {
        let mut spelled = Spelled::new(others);
        from.iter().for_each(|header| spelled.note(header.name.as_bytes()));
        to.keep_spelling(spelled);
    }
    for header in from {
        if limits.underscores != Underscores::Allow && header.name.contains('_') {
            match limits.underscores {
                Underscores::Refuse => return Err(Refused::Underscore),
                _ => continue,
            }
        }
        let value = trim(header.value);
        // An empty value may lie anywhere.
        let value = if value.is_empty() { Span::default() } else { place.span(value) };
        to.push_spans(place.span(header.name.as_bytes()), value);
    }
    Ok(place)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Registered methods, in their one spelling: a method in another case is refused, so no method rule is got around.
pub fn method_allowed(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET"
            | b"HEAD"
            | b"POST"
            | b"PUT"
            | b"DELETE"
            | b"OPTIONS"
            | b"PATCH"
            | b"CONNECT"
            | b"TRACE"
            | b"ACL"
            | b"BIND"
            | b"CHECKOUT"
            | b"COPY"
            | b"LINK"
            | b"LOCK"
            | b"MERGE"
            | b"MKACTIVITY"
            | b"MKCALENDAR"
            | b"MKCOL"
            | b"MOVE"
            | b"M-SEARCH"
            | b"NOTIFY"
            | b"PROPFIND"
            | b"PROPPATCH"
            | b"PURGE"
            | b"QUERY"
            | b"REBIND"
            | b"REPORT"
            | b"SEARCH"
            | b"SOURCE"
            | b"SUBSCRIBE"
            | b"UNBIND"
            | b"UNLINK"
            | b"UNLOCK"
            | b"UNSUBSCRIBE"
    )
}

/// Whether this may stand as an authority: a name or address, and perhaps a port. What RFC 3986 §3.2.2 allows beyond that
/// (lists, encoded bytes) has no honest use in a host, and is taken for another host by some readers.
pub fn authority_allowed(authority: &[u8]) -> bool {
    let (mut before, mut marked) = (0, false);
    for byte in authority {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'*' => {}
            // Of two dots at the end one may be taken off before a rule looks, and the other after it.
            b'.' if before != b'.' => {}
            b':' | b'[' | b']' => marked = true,
            _ => return false,
        }
        before = *byte;
    }
    !authority.is_empty() && (!marked || host_and_port(authority))
}

/// A host that is not empty, perhaps in brackets, and behind a colon a port, perhaps an empty one.
fn host_and_port(authority: &[u8]) -> bool {
    let (host, rest) = match authority {
        [b'[', inner @ ..] => {
            let Some(end) = memchr::memchr(b']', inner) else { return false };
            let (host, rest) = inner.split_at(end);
            if !host.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) {
                return false;
            }
            (host, &rest[1..])
        }
        _ => authority.split_at(memchr::memchr(b':', authority).unwrap_or(authority.len())),
    };
    let port = match rest {
        [] | [b':'] => true,
        [b':', port @ ..] => decimal(port).is_some_and(|port| port <= 65_535),
        _ => false,
    };
    !host.is_empty() && !host.contains(&b'[') && !host.contains(&b']') && port
}

/// Whether this may stand as a path with query: printable ASCII, no fragment.
pub fn path_allowed(path: &[u8]) -> bool {
    path.first() == Some(&b'/') && path.iter().all(|b| matches!(b, 0x21..=0x7e) && *b != b'#')
}

fn set_target(target: &[u8], place: Span, without_host: Http10, out: &mut RequestHead) -> Result<(), Refused> {
    if out.method() == b"CONNECT" {
        return set_connect_target(target, place, out);
    }
    let (authority, path) = match absolute(target) {
        Some((secure, rest)) => {
            out.secure_scheme = secure;
            out.scheme_told = true;
            let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        None => (None, target),
    };
    match path.first() {
        None => out.set_path(b"/"),
        Some(b'?') => out.set_path(&[b"/", path].concat()),
        // Neither origin, absolute nor asterisk form: the log need not know it as a path.
        Some(byte) if !matches!(byte, b'/' | b'*') => return Err(Refused::Syntax),
        Some(_) => out.set_path_span(place.end(path.len())),
    }
    // With the path in place, so that the log shows what a request without a host asked for.
    let host = one_host(out)?;
    match authority {
        Some(authority) => out.set_authority(authority),
        None => out.set_authority_span(host.unwrap_or_default()),
    }
    let left_out = host.is_none() && authority.is_none() && without_host == Http10::AcceptWithoutHost;
    if !left_out && !authority_allowed(out.authority()) {
        return Err(if out.authority().is_empty() { Refused::Host } else { Refused::Syntax });
    }
    let path = out.path();
    let asterisk = path == b"*" && out.method() == b"OPTIONS";
    if !path_allowed(path) && !asterisk {
        return Err(Refused::Target);
    }
    out.headers.remove_known(Known::Host);
    Ok(())
}

/// Where the Host field's value is; only HTTP/1.0 may leave it out.
fn one_host(out: &RequestHead) -> Result<Option<Span>, Refused> {
    let mut hosts = out.headers.known_spans(Known::Host);
    let host = hosts.next();
    if hosts.next().is_some() || (host.is_none() && out.version == Version::Http11) {
        return Err(Refused::Host);
    }
    Ok(host)
}

/// CONNECT has a host and a port, and nothing else (RFC 9110 §9.3.6); its Host field gives way to them.
fn set_connect_target(target: &[u8], place: Span, out: &mut RequestHead) -> Result<(), Refused> {
    one_host(out)?;
    if out.version == Version::Http10 || !connect_allowed(target) {
        return Err(Refused::Method);
    }
    out.set_authority_span(place);
    out.tunnel = Tunnel::Connect;
    out.headers.remove_known(Known::Host);
    Ok(())
}

/// Whether this may stand as CONNECT's target: a name or address, and a port.
pub fn connect_allowed(target: &[u8]) -> bool {
    let Some(colon) = memchr::memrchr(b':', target) else { return false };
    let (host, port) = (&target[..colon], &target[colon + 1..]);
    let bracketed = host.first() == Some(&b'[') && host.last() == Some(&b']');
    let port = decimal(port).filter(|port| (1..=65_535).contains(port));
    authority_allowed(host) && (bracketed || !host.contains(&b':')) && port.is_some()
}

/// The rest of an absolute-form target behind its scheme, and whether that was https.
fn absolute(target: &[u8]) -> Option<(bool, &[u8])> {
    let starts = |p: &[u8]| target.len() >= p.len() && target[..p.len()].eq_ignore_ascii_case(p);
    if starts(b"http://") {
        Some((false, &target[7..]))
    } else if starts(b"https://") {
        Some((true, &target[8..]))
    } else {
        None
    }
}

#[derive(Default)]
struct Asks {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

fn connection_asks(headers: &Headers) -> Asks {
    let mut asks = Asks::default();
    for token in headers.all_known(Known::Connection).flat_map(|v| v.split(|b| *b == b',')).map(trim) {
        asks.close |= token.eq_ignore_ascii_case(b"close");
        asks.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
        asks.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
    }
    asks
}

/// Reads Connection, Upgrade and Expect.
fn set_connection(out: &mut RequestHead) {
    let asks = connection_asks(&out.headers);
    out.close = asks.close || (out.version == Version::Http10 && !asks.keep_alive);
    if asks.upgrade && out.version == Version::Http11 && out.tunnel == Tunnel::No {
        let mut wanted = out.headers.all_known(Known::Upgrade);
        out.tunnel = match (wanted.next(), wanted.next()) {
            (Some(v), None) if v.eq_ignore_ascii_case(b"websocket") => Tunnel::WebSocket,
            (Some(v), None) if !v.eq_ignore_ascii_case(b"h2c") => Tunnel::Other,
            // Of a choice that we do not understand nothing is passed on.
            _ => Tunnel::No,
        };
    }
    if let Some(expect) = out.headers.known(Known::Expect) {
        // Another expectation is for the upstream to meet.
        if expect.eq_ignore_ascii_case(b"100-continue") {
            out.expect_continue = out.version == Version::Http11;
            out.headers.remove_known(Known::Expect);
        }
    }
}

fn request_framing(head: &RequestHead) -> Result<Framing, Refused> {
    // A tab or a blank too many is how one reader is made to see a coding and another not.
    if !head.headers.plainly_spaced(Known::TransferEncoding) {
        return Err(Refused::Framing);
    }
    match (coding(&head.headers)?, length(&head.headers)?) {
        (true, Some(_)) => Err(Refused::Framing),
        (true, None) if head.version == Version::Http10 => Err(Refused::Framing),
        (true, None) => Ok(Framing::Delimited),
        (false, Some(0)) | (false, None) => Ok(Framing::None),
        (false, Some(n)) => Ok(Framing::Length(n)),
    }
}

fn response_framing(head: &ResponseHead, to: To) -> Result<Framing, Refused> {
    let coded = coding(&head.headers)?;
    let length = length(&head.headers)?;
    if coded && (length.is_some() || head.version == Version::Http10) {
        return Err(Refused::Framing);
    }
    let switched = match to {
        To::Upgrade => head.status == 101,
        // What follows is the tunnel's, whatever length is declared (RFC 9110 §9.3.6).
        To::Connect => (200..300).contains(&head.status),
        _ => false,
    };
    if switched || bodiless(head.status, to) {
        return Ok(Framing::None);
    }
    Ok(match (coded, length) {
        (true, _) => Framing::Delimited,
        (false, Some(n)) => Framing::Length(n),
        (false, None) => Framing::Close,
    })
}

/// Whether the body is chunked; any other coding, or chunked said twice or oddly, is refused.
fn coding(headers: &Headers) -> Result<bool, Refused> {
    let mut all = headers.all_known(Known::TransferEncoding);
    match (all.next(), all.next()) {
        (None, _) => Ok(false),
        (Some(v), None) if v.eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(Refused::Framing),
    }
}

/// Readers that count with a sign would take more for less than nothing.
const LONGEST: u64 = i64::MAX as u64;

/// The one Content-Length, all digits; repeated ones are refused even when equal.
fn length(headers: &Headers) -> Result<Option<u64>, Refused> {
    let mut all = headers.all_known(Known::ContentLength);
    let Some(text) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(Refused::Framing);
    }
    decimal(text).filter(|length| *length <= LONGEST).map(Some).ok_or(Refused::Framing)
}

/// Digits only, at least one, no overflow.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |n, b| match b {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

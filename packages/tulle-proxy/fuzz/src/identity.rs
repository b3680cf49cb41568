//! Names in certificates: whatever is taken for a SPIFFE identity is exactly that, no name can break a line, and none can
//! speak for another in x-forwarded-client-cert.

use tulle_core::SpiffeId;
use tulle_http::Headers;
use tulle_identity::forwarded::Forwarded;
use tulle_identity::peer;

pub fn spiffe_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(id) = text.parse::<SpiffeId>() else { return };
    assert_eq!(id.to_string(), text);
    assert!(text.starts_with("spiffe://") && !text.ends_with('/'));
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
    assert!(!text["spiffe://".len()..].contains("//") && !text.contains(['?', '#', '%', '\\']));
}

pub fn certificate(data: &[u8]) {
    let subject = peer::subject(data);
    assert!(!subject.chars().any(char::is_control), "{subject:?}");
    let _serial = peer::serial(data);
    let identity = peer::identity(data);
    let Ok(names) = peer::names(data) else {
        assert!(identity.spiffe.is_none(), "an unreadable certificate identifies somebody");
        return;
    };
    let all = names.uris.iter().chain(&names.dns).chain(&names.emails);
    assert!(!all.flat_map(|name| name.chars()).any(char::is_control));
    if let Some(id) = identity.spiffe {
        assert_eq!(names.uris, [id.to_string()]);
    }
}

/// Lines: what a neighbour said before, then our own name, the peer's subject, which is the issuer's too, and its name, of
/// both kinds. However they read, the last element is ours, and says just that.
pub fn xfcc(data: &[u8]) {
    let mut lines = data.splitn(4, |byte| *byte == b'\n').map(|line| std::str::from_utf8(line).ok());
    let mut line = || lines.next().flatten();
    let (Some(before), Some(by), Some(subject), Some(uri)) = (line(), line(), line(), line()) else { return };
    let names = [uri.to_owned()];
    let told = Forwarded {
        by: Some(by),
        hash: "0a",
        subject: Some(subject),
        uris: Some(&names),
        dns: &names,
        issuer: Some(subject),
        ..Forwarded::default()
    };
    let element = told.element();
    assert!(!element.chars().any(char::is_control), "{element:?}");
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    let parts = elements(&element);
    let [parts] = &parts[..] else { panic!("{} elements: {element}", parts.len()) };
    let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["By", "Hash", "Subject", "URI", "DNS", "Issuer"], "{element}");
    for (at, text) in [(0, by), (3, uri), (4, uri)] {
        if !text.contains('\\') {
            assert_eq!(parts[at].1, plain(text), "{element}");
        }
    }
    // A neighbour that leaves a quotation open is not to be trusted with this header at all.
    if !before.contains(['"', '\\']) {
        let mut headers = Headers::default();
        headers.push(b"x-forwarded-client-cert", before.as_bytes());
        headers.append_csv(b"x-forwarded-client-cert", element.as_bytes());
        let whole = String::from_utf8_lossy(headers.get(b"x-forwarded-client-cert").unwrap_or_default()).into_owned();
        assert_eq!(elements(&whole).last(), Some(parts), "{whole}");
    }
}

type Parts = Vec<(String, String)>;

/// Reads the header as Envoy documents it: elements between commas, parts between semicolons, names before the first
/// equals sign, values perhaps in quotes, in which a backslash goes with the next character.
fn elements(header: &str) -> Vec<Parts> {
    let mut elements = vec![vec![String::new()]];
    let (mut inside, mut rest) = (false, header.chars());
    while let Some(c) = rest.next() {
        let last = elements.last_mut().expect("there is one");
        match c {
            ',' if !inside => elements.push(vec![String::new()]),
            ';' if !inside => last.push(String::new()),
            '"' => inside = !inside,
            '\\' if inside => last.last_mut().expect("there is one").extend(rest.next()),
            _ => last.last_mut().expect("there is one").push(c),
        }
    }
    assert!(!inside, "a quotation does not end: {header}");
    let part = |text: String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (text, String::new()),
    };
    elements.into_iter().map(|parts| parts.into_iter().map(part).collect()).collect()
}

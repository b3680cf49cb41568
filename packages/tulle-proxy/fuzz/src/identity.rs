//! Names in certificates: whatever is taken for a SPIFFE identity is exactly that, and no name can break a line.

use tulle_core::SpiffeId;
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

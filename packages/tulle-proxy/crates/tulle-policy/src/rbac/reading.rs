//! A path as servers more lenient than this proxy may read it: with path parameters cut off, encoded slashes and dots
//! decoded, backslashes and repeated slashes taken for one, and dot segments removed.

use std::borrow::Cow;

/// Another reading of `path` (without query), or `None` when all servers agree on it. Nothing is allocated for a path in
/// which there is nothing to disagree about, which is nearly every one.
pub fn lenient(path: &str) -> Option<String> {
    if !is_doubtful(path.as_bytes()) {
        return None;
    }
    let decoded = decode(path);
    let mut kept: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in decoded.split('/') {
        let name = segment.split(';').next().unwrap_or_default();
        open = matches!(name, "" | "." | "..");
        match name {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    let mut read = String::with_capacity(path.len());
    for name in &kept {
        read.push('/');
        read.push_str(name);
    }
    if open {
        read.push('/');
    }
    (read != path).then_some(read)
}

fn is_doubtful(path: &[u8]) -> bool {
    let mut after_slash = false;
    path.iter().any(|byte| {
        let doubtful = matches!(byte, b';' | b'%' | b'\\') || (after_slash && matches!(byte, b'/' | b'.'));
        after_slash = *byte == b'/';
        doubtful
    })
}

/// Decodes what stands for a slash, a backslash or a dot, and makes slashes of backslashes.
fn decode(path: &str) -> Cow<'_, str> {
    if !path.contains(['%', '\\']) {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).unwrap_or_default();
        let (read, used) = match (&rest[at..=at], code.to_ascii_lowercase().as_str()) {
            ("\\", _) => ("/", 1),
            (_, "2f" | "5c") => ("/", 3),
            (_, "2e") => (".", 3),
            _ => ("%", 1),
        };
        out.push_str(read);
        rest = &rest[at + used..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::lenient;

    #[test]
    fn plain_paths_have_one_reading() {
        for path in ["/", "/a", "/a/b", "/a/b/", "/a.b/c", "/a%20b", "/a:b/*"] {
            assert_eq!(lenient(path), None, "{path}");
        }
    }

    #[test]
    fn doubtful_paths_have_another() {
        for (path, read) in [
            ("//admin", "/admin"),
            ("/admin;x", "/admin"),
            ("/admin;x=1/y;z", "/admin/y"),
            ("/u/..;a=b/admin", "/admin"),
            ("/x%2f..%2Fadmin", "/admin"),
            ("/x%5c..%5Cadmin", "/admin"),
            ("/x\\..\\admin", "/admin"),
            ("/%2e%2e/admin/.", "/admin/"),
            ("/;x/admin", "/admin"),
            ("/a//", "/a/"),
            ("/..", "/"),
            ("/%2", "/%2"),
        ] {
            let expected = (path != read).then(|| read.to_owned());
            assert_eq!(lenient(path), expected, "{path}");
        }
    }
}

//! What an upstream is told of a client's certificate: one element of `x-forwarded-client-cert`.

/// The parts that are told; the caller knows which of them are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forwarded<'a> {
    /// The URI name in this process's own certificate.
    pub by: Option<&'a str>,
    /// SHA-256 of the peer's certificate, in hexadecimal.
    pub hash: &'a str,
    /// The peer's certificate, and all that it sent, as escaped PEM.
    pub cert: Option<&'a str>,
    pub chain: Option<&'a [&'a str]>,
    /// As RFC 2253 writes it.
    pub subject: Option<&'a str>,
    /// The URI names of the peer; an empty one where there is none.
    pub uris: Option<&'a [String]>,
    pub dns: &'a [String],
    /// As RFC 2253 writes it.
    pub issuer: Option<&'a str>,
}

impl Forwarded<'_> {
    /// Envoy's form. A name with characters that separate parts or elements is quoted, so that no certificate can speak
    /// for another one.
    pub fn element(&self) -> String {
        let mut out = String::new();
        if let Some(by) = self.by {
            out.push_str("By=");
            value(by, &mut out);
            out.push(';');
        }
        out.push_str("Hash=");
        value(self.hash, &mut out);
        if let Some(cert) = self.cert {
            out.push_str(";Cert=");
            quoted(cert, &mut out);
        }
        if let Some(chain) = self.chain {
            out.push_str(";Chain=");
            quoted(&chain.concat(), &mut out);
        }
        if let Some(subject) = self.subject {
            out.push_str(";Subject=");
            quoted(subject, &mut out);
        }
        if self.uris.is_some_and(<[String]>::is_empty) {
            out.push_str(";URI=");
        }
        let names = self.uris.into_iter().flatten().map(|uri| (";URI=", uri));
        for (key, name) in names.chain(self.dns.iter().map(|name| (";DNS=", name))) {
            out.push_str(key);
            value(name, &mut out);
        }
        if let Some(issuer) = self.issuer {
            out.push_str(";Issuer=");
            quoted(issuer, &mut out);
        }
        out
    }
}

fn value(text: &str, out: &mut String) {
    if text.contains([',', ';', '"', '\\']) || text.contains(char::is_control) {
        quoted(text, out);
    } else {
        out.push_str(text);
    }
}

/// In quotes. What is escaped already stays so; a control character has no place in a header.
fn quoted(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text.chars().filter(|c| !c.is_control());
    while let Some(c) = rest.next() {
        match c {
            '\\' => out.extend(['\\', rest.next().unwrap_or('\\')]),
            '"' => out.push_str("\\\""),
            _ => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_as_envoy_writes_them() {
        let whole = Forwarded {
            by: Some("spiffe://a/ns/b/sa/c"),
            hash: "0aff",
            cert: Some("leaf%0A"),
            chain: Some(&["leaf%0A", "next%0A"]),
            subject: Some("CN=x,O=\\\"y\\\""),
            uris: Some(&["spiffe://a/ns/b/sa/d".into()]),
            dns: &["d.test".into(), "e.test".into()],
            issuer: Some("O=z"),
        };
        let wanted = "By=spiffe://a/ns/b/sa/c;Hash=0aff;Cert=\"leaf%0A\";Chain=\"leaf%0Anext%0A\";\
                      Subject=\"CN=x,O=\\\"y\\\"\";URI=spiffe://a/ns/b/sa/d;DNS=d.test;DNS=e.test;Issuer=\"O=z\"";
        assert_eq!(whole.element(), wanted);
        assert_eq!(Forwarded { hash: "0a", uris: Some(&[]), ..Forwarded::default() }.element(), "Hash=0a;URI=");
    }

    #[test]
    fn names_that_would_say_more_are_quoted() {
        let of = |uri: &str| Forwarded { hash: "0", uris: Some(&[uri.into()]), ..Forwarded::default() }.element();
        assert_eq!(of("a;URI=admin"), "Hash=0;URI=\"a;URI=admin\"");
        assert_eq!(of("a,By=x"), "Hash=0;URI=\"a,By=x\"");
        assert_eq!(of("a\";b"), "Hash=0;URI=\"a\\\";b\"");
        assert_eq!(of("a\r\nb"), "Hash=0;URI=\"ab\"");
        assert_eq!(of("a\\"), "Hash=0;URI=\"a\\\\\"", "a backslash does not take the closing quote along");
    }
}

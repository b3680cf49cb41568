//! Query parameters of a request's path.

use std::borrow::Cow;

use tulle_core::Str;

use crate::matcher::StringMatcher;

/// What a query-parameter matcher asks of the parameter's first value.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryTest {
    Present(bool),
    String(StringMatcher),
}

/// `envoy.config.route.v3.QueryParameterMatcher`; values are compared as they stand, not decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryMatcher {
    pub name: Str,
    pub test: QueryTest,
}

impl QueryMatcher {
    /// On a query string without `?`; the first parameter of the name counts.
    pub fn matches(&self, query: &str) -> bool {
        self.takes(parameter(query, &self.name).map(str::as_bytes))
    }

    /// On a query string whose names and values are decoded first.
    pub fn matches_decoded(&self, query: &str) -> bool {
        self.takes(decoded_parameter(query, &self.name).as_deref())
    }

    fn takes(&self, value: Option<&[u8]>) -> bool {
        match (&self.test, value) {
            (QueryTest::Present(wanted), value) => value.is_some() == *wanted,
            (QueryTest::String(matcher), Some(value)) => matcher.matches(value),
            (QueryTest::String(_), None) => false,
        }
    }
}

/// The query of a path, without `?` and fragment; empty when there is none.
pub fn query_of(path: &str) -> &str {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    query.split_once('#').map_or(query, |(query, _)| query)
}

/// The first value of a parameter of a query; one without `=` has an empty value.
pub fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The first value of a parameter of a query, by its decoded name, decoded (RFC 3986 §2.1).
pub fn decoded_parameter<'q>(query: &'q str, name: &str) -> Option<Cow<'q, [u8]>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *decoded(key) == *name.as_bytes()).map(|(_, value)| decoded(value))
}

/// A `%` without two digits stands for itself.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, after @ ..] = rest {
        let byte = match after {
            [high, low, ..] if *first == b'%' => digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read() {
        assert_eq!(decoded_parameter("%61=%4Ab%2&a=2", "a").as_deref(), Some(&b"Jb%2"[..]));
        assert_eq!(decoded_parameter("a=%zz%", "a").as_deref(), Some(&b"%zz%"[..]));
        let matcher = QueryMatcher { name: "a".into(), test: QueryTest::String(StringMatcher::exact("1")) };
        assert!(matcher.matches_decoded("a=%31") && !matcher.matches("a=%31"));
    }

    #[test]
    fn the_first_value_counts() {
        assert_eq!(parameter(query_of("/a?x=1&y=2&y=4#y=3"), "y"), Some("2"));
        assert_eq!((parameter("xy", "x"), parameter(query_of("/a"), "x")), (None, None));
        assert_eq!((parameter("x", "x"), parameter("&&", "")), (Some(""), None));
    }
}

//! Query parameters of a request's path.

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
        match (&self.test, parameter(query, &self.name)) {
            (QueryTest::Present(wanted), value) => value.is_some() == *wanted,
            (QueryTest::String(matcher), Some(value)) => matcher.matches(value.as_bytes()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts() {
        assert_eq!(parameter(query_of("/a?x=1&y=2&y=4#y=3"), "y"), Some("2"));
        assert_eq!((parameter("xy", "x"), parameter(query_of("/a"), "x")), (None, None));
        assert_eq!((parameter("x", "x"), parameter("&&", "")), (Some(""), None));
    }
}

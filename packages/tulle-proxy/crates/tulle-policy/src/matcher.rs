//! String and header matchers as Envoy defines them, compiled once.

use tulle_core::{Headers, RequestView, Str};

use crate::re2;

/// A compiled regular expression of the linear-time engine that matches a whole value, as Envoy's `RegexMatcher`.
#[derive(Clone, Debug)]
pub struct Regex {
    whole: regex::bytes::Regex,
    source: Str,
}

/// Why a pattern was refused.
#[derive(Debug, thiserror::Error)]
#[error("invalid regular expression {pattern:?}: {reason}")]
pub struct RegexError {
    pub pattern: String,
    pub reason: String,
}

/// Compiled programs beyond this many bytes are refused, so that a pattern cannot eat the proxy's memory.
pub const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// Compiles `pattern` unanchored, with the mesh's size limit.
pub fn compile_unanchored(pattern: &str) -> Result<regex::bytes::Regex, RegexError> {
    regex::bytes::RegexBuilder::new(pattern)
        .size_limit(REGEX_SIZE_LIMIT)
        .build()
        .map_err(|reason| RegexError { pattern: pattern.to_owned(), reason: reason.to_string() })
}

/// Compiles a pattern in RE2's syntax, unanchored.
pub fn compile_re2(pattern: &str) -> Result<regex::bytes::Regex, RegexError> {
    compile_unanchored(&re2::translate(pattern)).map_err(|error| RegexError { pattern: pattern.to_owned(), ..error })
}

impl Regex {
    /// Of a pattern in RE2's syntax.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        // Checked by itself first: "a)(b" would otherwise become valid inside the anchoring group.
        compile_re2(pattern)?;
        Ok(Regex { whole: compile_re2(&format!("^(?:{pattern})$"))?, source: pattern.into() })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    #[inline]
    pub fn is_match(&self, value: &[u8]) -> bool {
        self.whole.is_match(value)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// The comparison of `envoy.type.matcher.v3.StringMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub enum StringTest {
    Exact(Str),
    Prefix(Str),
    Suffix(Str),
    Contains(Str),
    Regex(Regex),
}

/// `envoy.type.matcher.v3.StringMatcher`; `ignore_case` is ASCII only and, as in Envoy, has no effect on a regex.
#[derive(Clone, Debug, PartialEq)]
pub struct StringMatcher {
    pub test: StringTest,
    pub ignore_case: bool,
}

fn contains(value: &[u8], needle: &[u8], ignore_case: bool) -> bool {
    if needle.is_empty() {
        return true;
    }
    value.windows(needle.len()).any(|window| same(window, needle, ignore_case))
}

#[inline]
fn same(left: &[u8], right: &[u8], ignore_case: bool) -> bool {
    if ignore_case { left.eq_ignore_ascii_case(right) } else { left == right }
}

/// Whether `value` starts with `prefix`.
#[inline]
pub fn has_prefix(value: &[u8], prefix: &[u8], ignore_case: bool) -> bool {
    value.len() >= prefix.len() && same(&value[..prefix.len()], prefix, ignore_case)
}

/// Whether `value` ends with `suffix`.
#[inline]
pub fn has_suffix(value: &[u8], suffix: &[u8], ignore_case: bool) -> bool {
    value.len() >= suffix.len() && same(&value[value.len() - suffix.len()..], suffix, ignore_case)
}

impl StringMatcher {
    pub fn exact(text: &str) -> Self {
        StringMatcher { test: StringTest::Exact(text.into()), ignore_case: false }
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        let fold = self.ignore_case;
        match &self.test {
            StringTest::Exact(text) => same(value, text.as_bytes(), fold),
            StringTest::Prefix(text) => has_prefix(value, text.as_bytes(), fold),
            StringTest::Suffix(text) => has_suffix(value, text.as_bytes(), fold),
            StringTest::Contains(text) => contains(value, text.as_bytes(), fold),
            StringTest::Regex(regex) => regex.is_match(value),
        }
    }
}

/// What a header matcher asks of the value.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderTest {
    /// Present (true) or absent (false).
    Present(bool),
    String(StringMatcher),
    /// A base-10 integer in `start..end`.
    Range {
        start: i64,
        end: i64,
    },
}

/// `envoy.config.route.v3.HeaderMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderMatcher {
    /// In lower case; pseudo-headers as `:method`, `:authority`, `:path`, `:scheme`.
    pub name: Str,
    pub test: HeaderTest,
    pub invert: bool,
    /// Evaluate an absent header as an empty value.
    pub treat_missing_as_empty: bool,
}

impl HeaderMatcher {
    /// As Envoy's `HeaderUtility::matchHeaders`: of several values any may pass the test, and with an inverted test
    /// none may; an absent header fails every value test, inverted or not, unless it is treated as empty.
    pub fn matches<R: RequestView + ?Sized>(&self, request: &R) -> bool {
        if self.name.starts_with(':') || &*self.name == "host" {
            return self.evaluate(request.field(&self.name));
        }
        self.matches_all(request)
    }

    /// The same of a head without pseudo-headers, such as a response's.
    pub fn matches_all<H: Headers + ?Sized>(&self, head: &H) -> bool {
        let (mut present, mut hit) = (false, false);
        head.visit_values(&self.name, &mut |value| {
            present = true;
            hit |= self.evaluate(Some(value)) != self.invert;
        });
        if present { hit != self.invert } else { self.evaluate(None) }
    }

    /// The test on one value; `None` when the header is absent.
    pub fn evaluate(&self, value: Option<&[u8]>) -> bool {
        let value = match (value, self.treat_missing_as_empty) {
            (None, true) => Some(&b""[..]),
            (value, _) => value,
        };
        if let HeaderTest::Present(wanted) = self.test {
            return (value.is_some() == wanted) != self.invert;
        }
        let Some(value) = value else { return false };
        let hit = match &self.test {
            HeaderTest::Present(_) => unreachable!("answered above"),
            HeaderTest::String(matcher) => matcher.matches(value),
            HeaderTest::Range { start, end } => {
                parse_integer(value).is_some_and(|number| number >= *start && number < *end)
            }
        };
        hit != self.invert
    }
}

fn parse_integer(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(test: StringTest, ignore_case: bool) -> StringMatcher {
        StringMatcher { test, ignore_case }
    }

    #[test]
    fn strings_compare_as_configured() {
        let table = [
            (string(StringTest::Exact("a".into()), false), "a", true),
            (string(StringTest::Exact("a".into()), false), "A", false),
            (string(StringTest::Exact("a".into()), true), "A", true),
            (string(StringTest::Prefix("ab".into()), true), "ABc", true),
            (string(StringTest::Suffix("bc".into()), false), "abc", true),
            (string(StringTest::Suffix("abcd".into()), false), "bcd", false),
            (string(StringTest::Contains("B".into()), true), "abc", true),
            (string(StringTest::Contains("x".into()), true), "abc", false),
            (string(StringTest::Regex(Regex::new("a|bc").unwrap()), false), "bc", true),
            (string(StringTest::Regex(Regex::new("a|bc").unwrap()), false), "abc", false),
        ];
        for (matcher, value, expected) in table {
            assert_eq!(matcher.matches(value.as_bytes()), expected, "{matcher:?} on {value}");
        }
    }

    #[test]
    fn a_pattern_cannot_escape_its_anchors_or_its_size() {
        assert!(Regex::new("a)|(b").is_err());
        assert!(Regex::new("((a{1000}){1000}){1000}").is_err());
        let error = Regex::new("(").unwrap_err();
        assert!(error.to_string().contains("\"(\""));
    }

    #[test]
    fn absence_fails_value_tests_even_inverted() {
        let matcher = |invert, treat_missing_as_empty| HeaderMatcher {
            name: "x".into(),
            test: HeaderTest::String(StringMatcher::exact("a")),
            invert,
            treat_missing_as_empty,
        };
        assert!(!matcher(false, false).evaluate(None));
        assert!(!matcher(true, false).evaluate(None));
        assert!(matcher(true, true).evaluate(None));
        assert!(matcher(true, false).evaluate(Some(b"b")));
        let present = |wanted, invert| HeaderMatcher { test: HeaderTest::Present(wanted), ..matcher(invert, false) };
        assert!(present(false, false).evaluate(None));
        assert!(!present(true, false).evaluate(None));
        assert!(present(true, true).evaluate(None));
    }

    #[test]
    fn ranges_are_half_open_integers() {
        let matcher = HeaderMatcher {
            name: "x".into(),
            test: HeaderTest::Range { start: -5, end: 5 },
            invert: false,
            treat_missing_as_empty: false,
        };
        for (value, expected) in [("-5", true), ("4", true), ("5", false), ("4.0", false), ("x", false), ("", false)] {
            assert_eq!(matcher.evaluate(Some(value.as_bytes())), expected, "{value}");
        }
    }
}

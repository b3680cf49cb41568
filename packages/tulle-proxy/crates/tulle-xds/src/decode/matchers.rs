//! String, header and regular-expression matchers, and regular-expression substitutions.

use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher_pb;
use tulle_policy::rbac::{MetadataMatcher, ValueMatcher};
use tulle_policy::{HeaderMatcher, HeaderTest, Regex, StringMatcher, StringTest};
use tulle_route::RegexRewrite;
use tulle_route::rewrite::{Substitution, SubstitutionPiece};

use super::cx::Cx;

pub fn string_matcher(cx: &mut Cx, message: matcher_pb::StringMatcher) -> Option<StringMatcher> {
    use matcher_pb::string_matcher::MatchPattern;
    let matcher_pb::StringMatcher { ignore_case, match_pattern } = message;
    let test = match cx.required("match_pattern", match_pattern)? {
        MatchPattern::Exact(text) => StringTest::Exact(cx.intern(&text)),
        MatchPattern::Prefix(text) => StringTest::Prefix(cx.name("prefix", &text)?),
        MatchPattern::Suffix(text) => StringTest::Suffix(cx.name("suffix", &text)?),
        MatchPattern::Contains(text) => StringTest::Contains(cx.name("contains", &text)?),
        MatchPattern::SafeRegex(regex) => StringTest::Regex(safe_regex(cx, "safe_regex", regex)?),
        MatchPattern::Custom(_) => {
            cx.refuse("custom");
            return None;
        }
    };
    if ignore_case && matches!(test, StringTest::Regex(_)) {
        // Envoy refuses the combination too; case is the expression's own matter ((?i)).
        cx.error_at("ignore_case", "has no effect on a regular expression; write (?i) into it");
    }
    Some(StringMatcher { test, ignore_case })
}

/// A regular expression that matches the whole value. `engine_type` (RE2) is the only engine there is.
pub fn safe_regex(cx: &mut Cx, name: &str, message: matcher_pb::RegexMatcher) -> Option<Regex> {
    let matcher_pb::RegexMatcher { regex, engine_type: _ } = message;
    if regex.is_empty() {
        cx.error_at(name, "must not be empty");
        return None;
    }
    match Regex::new(&regex) {
        Ok(compiled) => Some(compiled),
        Err(error) => {
            cx.error_at(name, error.to_string());
            None
        }
    }
}

pub fn regex_rewrite(cx: &mut Cx, message: matcher_pb::RegexMatchAndSubstitute) -> Option<RegexRewrite> {
    let matcher_pb::RegexMatchAndSubstitute { pattern, substitution } = message;
    let matcher_pb::RegexMatcher { regex, engine_type: _ } = cx.required("pattern", pattern)?;
    let pattern = match tulle_policy::matcher::compile_re2(&regex) {
        Ok(pattern) => pattern,
        Err(error) => {
            cx.error_at("pattern.regex", error.to_string());
            return None;
        }
    };
    let substitution = cx.field("substitution", |cx| substitution_of(cx, &substitution, pattern.captures_len()))?;
    Some(RegexRewrite { pattern, substitution })
}

/// RE2's rewrite syntax: `\0` to `\9` are captures, `\\` is a backslash. `groups` counts the whole match as one.
fn substitution_of(cx: &mut Cx, text: &str, groups: usize) -> Option<Substitution> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        if next != '\\' {
            literal.push(next);
            continue;
        }
        match rest.next() {
            Some('\\') => literal.push('\\'),
            Some(digit) if digit.to_digit(10).is_some_and(|group| (group as usize) < groups) => {
                if !literal.is_empty() {
                    pieces.push(SubstitutionPiece::Literal(cx.intern(&std::mem::take(&mut literal))));
                }
                pieces.push(SubstitutionPiece::Capture(digit as usize - '0' as usize));
            }
            Some(digit) if digit.is_ascii_digit() => {
                cx.error(format!("\\{digit} has no group in the pattern"));
                return None;
            }
            _ => {
                cx.error("a backslash must be followed by a digit or a backslash");
                return None;
            }
        }
    }
    if !literal.is_empty() {
        pieces.push(SubstitutionPiece::Literal(cx.intern(&literal)));
    }
    Some(Substitution { pieces: pieces.into() })
}

pub fn header_matcher(cx: &mut Cx, message: route_pb::HeaderMatcher) -> Option<HeaderMatcher> {
    use route_pb::header_matcher::HeaderMatchSpecifier as Specifier;
    let route_pb::HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } = message;
    let name = cx.name("name", &name.to_ascii_lowercase())?;
    let plain = |test| HeaderTest::String(StringMatcher { test, ignore_case: false });
    let test = match header_match_specifier {
        None => HeaderTest::Present(true),
        Some(Specifier::PresentMatch(present)) => HeaderTest::Present(present),
        Some(Specifier::RangeMatch(range)) => HeaderTest::Range { start: range.start, end: range.end },
        Some(Specifier::ExactMatch(text)) => plain(StringTest::Exact(cx.intern(&text))),
        Some(Specifier::PrefixMatch(text)) => plain(StringTest::Prefix(cx.name("prefix_match", &text)?)),
        Some(Specifier::SuffixMatch(text)) => plain(StringTest::Suffix(cx.name("suffix_match", &text)?)),
        Some(Specifier::ContainsMatch(text)) => plain(StringTest::Contains(cx.name("contains_match", &text)?)),
        Some(Specifier::SafeRegexMatch(regex)) => plain(StringTest::Regex(safe_regex(cx, "safe_regex_match", regex)?)),
        Some(Specifier::StringMatch(matcher)) => {
            HeaderTest::String(cx.field("string_match", |cx| string_matcher(cx, matcher))?)
        }
    };
    Some(HeaderMatcher { name, test, invert: invert_match, treat_missing_as_empty: treat_missing_header_as_empty })
}

/// On what filters found out.
pub fn metadata_matcher(cx: &mut Cx, message: matcher_pb::MetadataMatcher) -> Option<MetadataMatcher> {
    let matcher_pb::MetadataMatcher { filter, path, value, invert } = message;
    if path.is_empty() {
        cx.error_at("path", "must not be empty");
        return None;
    }
    let wanted = path.len();
    let path = cx.each("path", path, |cx, segment| {
        let matcher_pb::metadata_matcher::path_segment::Segment::Key(key) = cx.required("segment", segment.segment)?;
        cx.name("key", &key)
    });
    let value = cx.required("value", value)?;
    Some(MetadataMatcher {
        filter: cx.name("filter", &filter)?,
        path: (path.len() == wanted).then(|| path.into())?,
        value: cx.field("value", |cx| value_matcher(cx, value))?,
        invert,
    })
}

fn value_matcher(cx: &mut Cx, message: matcher_pb::ValueMatcher) -> Option<ValueMatcher> {
    use matcher_pb::value_matcher::MatchPattern;
    let matcher_pb::ValueMatcher { match_pattern } = message;
    Some(match cx.required("match_pattern", match_pattern)? {
        MatchPattern::NullMatch(_) => ValueMatcher::Null,
        MatchPattern::DoubleMatch(double) => {
            use matcher_pb::double_matcher::MatchPattern as Double;
            match cx.required("double_match", double.match_pattern)? {
                Double::Exact(number) => ValueMatcher::Number(number),
                Double::Range(range) => ValueMatcher::Range { start: range.start, end: range.end },
            }
        }
        MatchPattern::StringMatch(matcher) => {
            ValueMatcher::String(cx.field("string_match", |cx| string_matcher(cx, matcher))?)
        }
        MatchPattern::BoolMatch(truth) => ValueMatcher::Bool(truth),
        MatchPattern::PresentMatch(present) => ValueMatcher::Present(present),
        MatchPattern::ListMatch(list) => {
            let matcher_pb::list_matcher::MatchPattern::OneOf(one) = cx.required("list_match", list.match_pattern)?;
            ValueMatcher::ListHas(Box::new(cx.field("list_match.one_of", |cx| value_matcher(cx, *one))?))
        }
        MatchPattern::OrMatch(or) => {
            let wanted = or.value_matchers.len();
            let any = cx.each("or_match.value_matchers", or.value_matchers, value_matcher);
            ValueMatcher::Or((any.len() == wanted).then(|| any.into())?)
        }
    })
}

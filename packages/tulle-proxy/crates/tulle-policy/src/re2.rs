//! Regular expressions as RE2 reads them, written for the engine that is here: what Envoy takes means the same, and classes
//! such as `\w` are those of ASCII, which keeps programs small.

use std::iter::Peekable;
use std::str::Chars;

/// The pattern in the syntax of the crate `regex`. What RE2 refuses is left as it is, for the engine to refuse.
pub fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\\' => escape(&mut rest, &mut out),
            '[' => class(&mut rest, &mut out),
            '{' if !repeats(rest.clone()) => out.push_str(r"\{"),
            other => out.push(other),
        }
    }
    out
}

/// Whether what follows an opening brace makes it a repetition; RE2 takes any other brace for itself.
fn repeats(mut rest: Peekable<Chars<'_>>) -> bool {
    let digits = |rest: &mut Peekable<Chars<'_>>| {
        let mut count = 0;
        while rest.next_if(char::is_ascii_digit).is_some() {
            count += 1;
        }
        count
    };
    if digits(&mut rest) == 0 {
        return false;
    }
    if rest.next_if_eq(&',').is_some() {
        digits(&mut rest);
    }
    rest.next() == Some('}')
}

/// Behind a backslash, outside of classes.
fn escape(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    match rest.next() {
        Some('Q') => quoted(rest, out),
        Some('C') => out.push_str("(?s-u:.)"),
        Some(kind @ ('b' | 'B')) => {
            out.push_str(r"(?-u:\");
            out.push(kind);
            out.push(')');
        }
        Some(kind) => match perl(kind) {
            Some(members) => {
                out.push_str(if kind.is_ascii_uppercase() { "[^" } else { "[" });
                out.push_str(members);
                out.push(']');
            }
            None => character(kind, rest, out),
        },
        None => out.push('\\'),
    }
}

/// The members of a Perl class or of its complement.
fn perl(kind: char) -> Option<&'static str> {
    match kind.to_ascii_lowercase() {
        'd' => Some("0-9"),
        's' => Some(r"\t\n\x0C\r\x20"),
        'w' => Some("0-9A-Za-z_"),
        _ => None,
    }
}

/// Everything up to `\E` stands for itself.
fn quoted(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    while let Some(next) = rest.next() {
        if next == '\\' && rest.next_if_eq(&'E').is_some() {
            return;
        }
        literal(next, out);
    }
}

/// An escaped character: an octal number, or one that stands for itself, or what the engine knows too.
fn character(first: char, rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let octal = |next: &char| matches!(next, '0'..='7');
    // A single digit but 0 would be a backreference.
    if first == '0' || (octal(&first) && rest.peek().is_some_and(octal)) {
        let mut number = u32::from(first) - u32::from('0');
        for _ in 0..2 {
            number = rest.next_if(octal).map_or(number, |digit| number * 8 + (u32::from(digit) - u32::from('0')));
        }
        out.push_str(&format!(r"\x{{{number:x}}}"));
    } else if first.is_ascii_punctuation() {
        literal(first, out);
    } else {
        out.push('\\');
        out.push(first);
    }
}

fn literal(character: char, out: &mut String) {
    if character.is_ascii_punctuation() && !matches!(character, '<' | '>' | '_') {
        out.push('\\');
    }
    out.push(character);
}

/// Behind an opening bracket: without sets in sets, which RE2 does not know.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    // A bracket or a dash that comes first stands for itself.
    if let Some(first) = rest.next_if(|next| matches!(next, ']' | '-')) {
        literal(first, out);
    }
    while let Some(next) = rest.next() {
        match next {
            ']' => return out.push(']'),
            '[' if rest.peek() == Some(&':') => posix(rest, out),
            '[' | '&' | '~' => literal(next, out),
            '-' if out.ends_with('-') && !out.ends_with(r"\-") => out.push_str(r"\-"),
            '\\' => match rest.next() {
                Some(kind) => match perl(kind) {
                    Some(members) if kind.is_ascii_uppercase() => out.push_str(&format!("[^{members}]")),
                    Some(members) => out.push_str(members),
                    None => character(kind, rest, out),
                },
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
}

/// `[:alpha:]` and its kind, or a bracket that stands for itself.
fn posix(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let mut ahead = rest.clone();
    ahead.next();
    let name: String = ahead.by_ref().take_while(|next| *next != ':').collect();
    if ahead.next() != Some(']') {
        return literal('[', out);
    }
    *rest = ahead;
    out.push_str(&format!("[:{name}:]"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_re2_takes_means_the_same() {
        // (pattern, a whole match, no match)
        let table = [
            (r"\d+", "12", "\u{663}"),
            (r"[\w.-]{1,255}", "a_b.c-d", "a b"),
            (r"[^\W\d]+", "ab_", "a1"),
            (r"{id}", "{id}", "id"),
            (r"a{,3}", "a{,3}", "aa"),
            (r"a{2}b{1,}", "aabb", "ab"),
            (r"[a&&b~~]+", "a&b~", "c"),
            (r"[[a]+", "[a[", "b"),
            (r"[^[\]]+", "a&b", "a[b"),
            (r"[]a]+", "]a", "b"),
            (r"[+--]+", "+,-", "."),
            (r"[a-]+", "a-", "b"),
            (r"\Qa.b(\E[0-9]", "a.b(1", "axb(1"),
            (r"\<a\>\_\-\%", "<a>_-%", "a"),
            (r"\101\060", "A0", "101"),
            (r"[\101-\103]", "B", "D"),
            (r"[[:alpha:]]+[[:^digit:]]", "abc", "ab1"),
            (r"\bab\b\C", "ab-", "abc"),
            (r"(?P<x>a)(?<y>b)", "ab", "b"),
            (r"[\s\S]*", "a \n\u{e9}", ""),
            (r"a]b}c", "a]b}c", "abc"),
        ];
        for (pattern, yes, no) in table {
            let whole = regex::bytes::Regex::new(&format!("^(?:{})$", translate(pattern)));
            let whole = whole.unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert!(whole.is_match(yes.as_bytes()), "{pattern} on {yes}");
            assert!(no.is_empty() || !whole.is_match(no.as_bytes()), "{pattern} on {no}");
        }
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for pattern in [r"\1", "a)(b", "[a", "(", "[z-a]", "a{2,1}", r"\y"] {
            assert!(regex::bytes::Regex::new(&translate(pattern)).is_err(), "{pattern}");
        }
    }
}

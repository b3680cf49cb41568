//! URI templates (`envoy.path.match.uri_template` and `envoy.path.rewrite.uri_template`), compiled to a regex.

use crate::matcher::compile_unanchored;
use tulle_core::Str;

/// A compiled template: literals, `*` (one segment), `**` (any rest), `{name}` and `{name=pattern}`, each in a segment of
/// its own; literal text may stand around a variable, and behind a last `*` or `**`.
#[derive(Clone, Debug)]
pub struct PathTemplate {
    pub source: Str,
    pattern: regex::bytes::Regex,
    names: Box<[Str]>,
}

/// Why a template was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid path template {template:?}: {reason}")]
pub struct TemplateError {
    pub template: String,
    pub reason: &'static str,
}

/// A compiled rewrite: literals and `{name}` of the template that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateRewrite {
    pieces: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Str),
    /// Number of the variable in the template.
    Variable(usize),
}

impl PartialEq for PathTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// What `*` takes: at least one character of a segment (RFC 3986 `pchar`), as in Envoy.
const SEGMENT: &str = "[a-zA-Z0-9\\-._~%!$&'()+,;:@*=]+";
/// What `**` takes.
const REST: &str = "[a-zA-Z0-9\\-._~%!$&'()+,;:@*=/]*";
/// Envoy's limit.
const MAX_VARIABLES: usize = 5;

impl PathTemplate {
    /// Compiles a template by Envoy's grammar.
    ///
    /// # Errors
    /// What of the template is not of that grammar. A `*` among other literal text is refused too, where Envoy takes it
    /// for a repetition of the character before it.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let fail = |reason| TemplateError { template: template.to_owned(), reason };
        let mut parser = Parser { rest: template, pattern: String::from("^"), names: Vec::new(), rest_taken: false };
        parser.template().map_err(fail)?;
        parser.pattern.push('$');
        let pattern = compile_unanchored(&parser.pattern).map_err(|_| fail("it is too large"))?;
        Ok(PathTemplate { source: template.into(), pattern, names: parser.names.into() })
    }

    /// Whether the template takes the whole path.
    pub fn matches(&self, path: &str) -> bool {
        self.pattern.is_match(path.as_bytes())
    }
}

/// A template being turned into a regular expression.
struct Parser<'t> {
    rest: &'t str,
    pattern: String,
    names: Vec<Str>,
    /// A `**` has been seen: no further wildcard may follow.
    rest_taken: bool,
}

impl Parser<'_> {
    fn template(&mut self) -> Result<(), &'static str> {
        loop {
            self.rest =
                self.rest.strip_prefix('/').ok_or("it does not start with /, or a segment does not end with it")?;
            self.pattern.push('/');
            // A slash at the end is matched as such.
            if self.rest.is_empty() {
                return Ok(());
            }
            if self.rest.starts_with('*') {
                self.wildcard()?;
                let suffix = self.until(&['/']);
                if !suffix.is_empty() {
                    self.literal(suffix)?;
                    return if self.rest.is_empty() { Ok(()) } else { Err("text behind * has to end the template") };
                }
            } else {
                self.segment()?;
            }
            if self.rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Literal text, or a variable with literal text around it.
    fn segment(&mut self) -> Result<(), &'static str> {
        let prefix = self.until(&['/', '{']);
        let Some(inner) = self.rest.strip_prefix('{') else { return self.literal(prefix) };
        if !prefix.is_empty() {
            self.literal(prefix)?;
        }
        let (variable, after) = inner.split_once('}').ok_or("a { is not closed")?;
        self.rest = variable;
        self.variable()?;
        self.rest = after;
        let suffix = self.until(&['/']);
        if suffix.is_empty() { Ok(()) } else { self.literal(suffix) }
    }

    /// `name` or `name=pattern`.
    fn variable(&mut self) -> Result<(), &'static str> {
        let (name, inner) = self.rest.split_once('=').unwrap_or((self.rest, "*"));
        if !is_name(name) {
            return Err("a variable's name has 1 to 16 letters, digits and underscores, a letter first");
        }
        if self.names.iter().any(|known| &**known == name) {
            return Err("a variable appears twice");
        }
        if self.names.len() == MAX_VARIABLES {
            return Err("it has more than 5 variables");
        }
        self.names.push(name.into());
        self.pattern.push('(');
        self.rest = inner;
        loop {
            if self.rest.starts_with('*') {
                self.wildcard()?;
            } else {
                let text = self.until(&['/']);
                self.literal(text)?;
            }
            if self.rest.is_empty() {
                break;
            }
            self.rest = self.rest.strip_prefix('/').ok_or("* has to fill its segment in a variable")?;
            self.pattern.push('/');
        }
        self.pattern.push(')');
        Ok(())
    }

    fn wildcard(&mut self) -> Result<(), &'static str> {
        if self.rest_taken {
            return Err("nothing variable may follow **");
        }
        (self.rest_taken, self.rest) = match self.rest.strip_prefix("**") {
            Some(after) => (true, after),
            None => (false, &self.rest[1..]),
        };
        self.pattern += if self.rest_taken { REST } else { SEGMENT };
        Ok(())
    }

    fn literal(&mut self, text: &str) -> Result<(), &'static str> {
        if text.is_empty() || !text.bytes().all(|byte| is_literal(byte) && byte != b'*') {
            return Err("a segment is empty, or has characters that do not belong into a path's text");
        }
        self.pattern += &regex::escape(text);
        Ok(())
    }
}

impl<'t> Parser<'t> {
    /// Takes what stands before the first of `ends`.
    fn until(&mut self, ends: &[char]) -> &'t str {
        let (taken, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }
}

fn is_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.len() <= 16 && name.bytes().all(word) && name.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
}

/// A character of a path's segment (RFC 3986 `pchar`).
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@".contains(&byte)
}

impl TemplateRewrite {
    /// Compiles a rewrite for paths that `template` matched.
    ///
    /// # Errors
    /// What of it is not of Envoy's grammar, or not a variable of `template`.
    pub fn parse(rewrite: &str, template: &PathTemplate) -> Result<Self, TemplateError> {
        let fail = |reason| TemplateError { template: rewrite.to_owned(), reason };
        if !rewrite.starts_with('/') || rewrite.contains("//") {
            return Err(fail("it does not start with /, or has an empty segment"));
        }
        let literal = |text: &str| match text.bytes().all(|byte| byte == b'/' || is_literal(byte)) {
            true => Ok(Piece::Literal(text.into())),
            false => Err(fail("it has characters that do not belong into a path's text")),
        };
        let mut pieces = Vec::new();
        let mut rest = rewrite;
        while let Some((text, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(|| fail("a { is not closed"))?;
            let known = template.names.iter().position(|known| &**known == name);
            pieces.push(literal(text)?);
            pieces.push(Piece::Variable(known.ok_or_else(|| fail("a variable is not in the match template"))?));
            rest = after;
        }
        pieces.push(literal(rest)?);
        Ok(TemplateRewrite { pieces: pieces.into() })
    }

    /// The rewritten path; `None` when `path` is not one of the template's.
    pub fn apply(&self, template: &PathTemplate, path: &str) -> Option<String> {
        let captures = template.pattern.captures(path.as_bytes())?;
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Variable(at) => out.push_str(std::str::from_utf8(captures.get(at + 1)?.as_bytes()).ok()?),
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_as_envoys() {
        let table = [
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/*", "/a/", false),
            ("/a/*", "/a/b=c*%41'", true),
            ("/a/*", "/a/b|c", false),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a/", true),
            ("/a/**", "/a", false),
            ("/a/", "/a/", true),
            ("/a/", "/a", false),
            ("/**/a", "//a", true),
            ("/**/a", "/a", false),
            ("/**.mpd", "/a/b.mpd", true),
            ("/*.m4s", "/xm4s", false),
            ("/a/{x}/c", "/a/b/c", true),
            ("/a/{x=v1/*}/c", "/a/v1/b/c", true),
            ("/a/{x=v1/*}/c", "/a/v2/b/c", false),
            ("/v{x}/{y}.json", "/v1/b.json", true),
            ("/v{x}/{y}.json", "/v/b.json", false),
            ("/a.b(c)", "/axb(c)", false),
        ];
        for (template, path, expected) in table {
            assert_eq!(PathTemplate::parse(template).unwrap().matches(path), expected, "{template} on {path}");
        }
    }

    #[test]
    fn rewrites_use_the_variables() {
        let template = PathTemplate::parse("/{country}/{rest=**}").unwrap();
        let rewrite = TemplateRewrite::parse("/v2/{rest}/{country}", &template).unwrap();
        assert_eq!(rewrite.apply(&template, "/se/a/b").as_deref(), Some("/v2/a/b/se"));
        for rewrite in ["/{other}", "{rest}", "/a//{rest}", "/a?b={rest}", "/{rest", "/{rest}}"] {
            assert!(TemplateRewrite::parse(rewrite, &template).is_err(), "{rewrite}");
        }
    }

    #[test]
    fn malformed_templates_are_refused() {
        let malformed = [
            "a",
            "",
            "/{a",
            "/{a}{b}",
            "/x{a}y{b}",
            "/{a}/{a}",
            "/{}",
            "/{1a}",
            "/{_a}",
            "/{abcdefghijklmnopq}",
            "/**/*",
            "/a/**/{b}",
            "/{x=**}/*",
            "/*b/c",
            "/a//b",
            "/a*",
            "/a/{x=}",
            "/a/{x=*/}",
            "/a/{x=***}",
            "/a?b",
            "/a|b",
            "/é",
            "/{a}/{b}/{c}/{d}/{e}/{f}",
        ];
        for template in malformed {
            assert!(PathTemplate::parse(template).is_err(), "{template}");
        }
    }
}

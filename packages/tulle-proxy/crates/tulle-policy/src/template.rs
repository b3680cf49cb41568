//! URI templates (`envoy.path.match.uri_template` and `envoy.path.rewrite.uri_template`), compiled to a regex.

use crate::matcher::compile_unanchored;
use tulle_core::Str;

/// A compiled template: literals, `*` (one segment), `**` (any rest), `{name}` and `{name=pattern}`.
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

impl PathTemplate {
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let fail = |reason| TemplateError { template: template.to_owned(), reason };
        let mut rest = template.strip_prefix('/').ok_or_else(|| fail("it does not start with /"))?;
        let mut names: Vec<Str> = Vec::new();
        let mut pattern = String::from("^/");
        loop {
            let end = match rest.starts_with('{') {
                true => rest.find('}').map(|brace| brace + 1).ok_or_else(|| fail("a { is not closed"))?,
                false => rest.find('/').unwrap_or(rest.len()),
            };
            let (segment, after) = rest.split_at(end);
            pattern += &expand(segment, &mut names).map_err(fail)?;
            match after.strip_prefix('/') {
                Some(_) if segment.contains("**") => return Err(fail("** has to come last")),
                Some(after) => {
                    pattern.push('/');
                    rest = after;
                }
                None if after.is_empty() => break,
                None => return Err(fail("a variable has to fill its segment")),
            }
        }
        pattern.push('$');
        let pattern = compile_unanchored(&pattern).map_err(|_| fail("too large"))?;
        Ok(PathTemplate { source: template.into(), pattern, names: names.into() })
    }

    /// Whether the template takes the whole path.
    pub fn matches(&self, path: &str) -> bool {
        self.pattern.is_match(path.as_bytes())
    }
}

fn expand(segment: &str, names: &mut Vec<Str>) -> Result<String, &'static str> {
    let Some(variable) = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) else {
        return simple(segment);
    };
    let (name, inner) = variable.split_once('=').unwrap_or((variable, "*"));
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.len() > 16 || !name.bytes().all(word) || name.as_bytes()[0].is_ascii_digit() {
        return Err("a variable's name has 1 to 16 letters, digits and underscores");
    }
    if names.iter().any(|known| &**known == name) {
        return Err("a variable appears twice");
    }
    names.push(name.into());
    let parts: Vec<String> = inner.split('/').map(simple).collect::<Result<_, _>>()?;
    Ok(format!("({})", parts.join("/")))
}

fn simple(segment: &str) -> Result<String, &'static str> {
    match segment {
        "*" => Ok("[^/]+".to_owned()),
        "**" => Ok(".*".to_owned()),
        literal if literal.contains(['*', '{', '}']) => Err("* and {} have to fill their segment"),
        literal => Ok(regex::escape(literal)),
    }
}

impl TemplateRewrite {
    /// Compiles a rewrite for paths that `template` matched.
    pub fn parse(rewrite: &str, template: &PathTemplate) -> Result<Self, TemplateError> {
        let fail = |reason| TemplateError { template: rewrite.to_owned(), reason };
        let mut pieces = Vec::new();
        let mut rest = rewrite;
        while let Some((literal, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(|| fail("a { is not closed"))?;
            let known = template.names.iter().position(|known| &**known == name);
            pieces.push(Piece::Literal(literal.into()));
            pieces.push(Piece::Variable(known.ok_or_else(|| fail("a variable is not in the match template"))?));
            rest = after;
        }
        pieces.push(Piece::Literal(rest.into()));
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
    fn templates_match_segments() {
        let table = [
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/*", "/a/", false),
            ("/a/**", "/a/b/c", true),
            ("/a/{x}/c", "/a/b/c", true),
            ("/a/{x=v1/*}/c", "/a/v1/b/c", true),
            ("/a/{x=v1/*}/c", "/a/v2/b/c", false),
            ("/a.b", "/axb", false),
        ];
        for (template, path, expected) in table {
            assert_eq!(PathTemplate::parse(template).unwrap().matches(path), expected, "{template} on {path}");
        }
    }

    #[test]
    fn rewrites_use_the_variables() {
        let template = PathTemplate::parse("/{country}/{rest=**}").unwrap();
        let rewrite = TemplateRewrite::parse("/v2/{rest}?c={country}", &template).unwrap();
        assert_eq!(rewrite.apply(&template, "/se/a/b").as_deref(), Some("/v2/a/b?c=se"));
        assert!(TemplateRewrite::parse("/{other}", &template).is_err());
    }

    #[test]
    fn malformed_templates_are_refused() {
        for template in ["a", "/{a", "/{a}b", "/**/a", "/a*", "/{a}/{a}", "/{}", "/{1a}"] {
            assert!(PathTemplate::parse(template).is_err(), "{template}");
        }
    }
}

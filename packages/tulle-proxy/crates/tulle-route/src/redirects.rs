//! Redirects of an upstream that the proxy follows by itself (`envoy.config.route.v3.InternalRedirectPolicy`).

use tulle_core::Str;

/// When a route follows redirects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalRedirects {
    /// Of one request, over all routes it takes.
    pub max: u32,
    /// Statuses that are followed, out of 301, 302, 303, 307 and 308.
    pub statuses: Box<[u16]>,
    /// Fields of the redirect that take the place of the request's; in lower case.
    pub copy: Box<[Str]>,
    pub predicates: Box<[RedirectPredicate]>,
    pub cross_scheme: CrossScheme,
}

/// Whether a redirect may lead from http to https or back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CrossScheme {
    #[default]
    Refused,
    Followed,
}

/// What must hold of the route that a redirect leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPredicate {
    /// It has one of these names.
    AllowListed(Box<[Str]>),
    /// No redirect of this route has led there before.
    PreviousRoutes,
    /// It does not lead from http to https.
    SafeCrossScheme,
}

/// What has been followed for a request so far.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    pub count: u32,
    /// The names of the route that was left and of the one that it led to.
    steps: Vec<(Str, Str)>,
}

/// A redirect from one route to another.
#[derive(Clone, Copy, Debug)]
pub struct Step<'s> {
    pub from: &'s Str,
    pub to: &'s Str,
    pub was_secure: bool,
    pub is_secure: bool,
}

impl InternalRedirects {
    /// Whether the schemes and the number of redirects so far let another one be followed.
    pub fn allows(&self, followed: &Followed, was_secure: bool, is_secure: bool) -> bool {
        followed.count < self.max && (was_secure == is_secure || self.cross_scheme == CrossScheme::Followed)
    }

    /// Whether every predicate accepts the step, which counts as taken from then on, as in Envoy.
    pub fn accepts(&self, followed: &mut Followed, step: &Step<'_>) -> bool {
        self.predicates.iter().all(|predicate| match predicate {
            RedirectPredicate::AllowListed(names) => names.contains(step.to),
            RedirectPredicate::SafeCrossScheme => step.was_secure || !step.is_secure,
            RedirectPredicate::PreviousRoutes => {
                let taken = (step.from.clone(), step.to.clone());
                let new = !followed.steps.contains(&taken);
                if new {
                    followed.steps.push(taken);
                }
                new
            }
        })
    }
}

/// Where a redirect leads: an absolute `http` or `https` URL, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location<'l> {
    pub is_secure: bool,
    /// Host and port, as written.
    pub authority: &'l str,
    /// Path and query without fragment; may be empty, and a query may stand alone.
    pub target: &'l str,
}

impl<'l> Location<'l> {
    /// `None` for what is not such a URL; user information is dropped, as in Envoy.
    pub fn parse(url: &'l str) -> Option<Location<'l>> {
        let (scheme, rest) = url.split_once("://")?;
        let is_secure = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => false,
            _ if scheme.eq_ignore_ascii_case("https") => true,
            _ => return None,
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let target = target.split('#').next().unwrap_or_default();
        let sane = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        (!authority.is_empty() && sane(authority) && sane(target)).then_some(Location { is_secure, authority, target })
    }

    /// The path and query of the request to make.
    pub fn path(&self) -> String {
        if self.target.starts_with('/') { self.target.to_owned() } else { format!("/{}", self.target) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_absolute_urls() {
        let parsed = |url| Location::parse(url).map(|found| (found.is_secure, found.authority, found.path()));
        let table = [
            ("http://h/a?b#c", Some((false, "h", "/a?b"))),
            ("HTTPS://u:p@h:8443", Some((true, "h:8443", "/"))),
            ("http://h?q", Some((false, "h", "/?q"))),
            ("http://[::1]:80/", Some((false, "[::1]:80", "/"))),
            ("/a", None),
            ("//h/a", None),
            ("ftp://h/a", None),
            ("http:///a", None),
            ("http://h/a b", None),
            ("http://h\r\n/a", None),
        ];
        for (url, expected) in table {
            assert_eq!(parsed(url), expected.map(|(secure, host, path)| (secure, host, path.to_owned())), "{url}");
        }
    }

    #[test]
    fn predicates_and_limits_hold() {
        let policy = |predicates: Vec<RedirectPredicate>| InternalRedirects {
            max: 2,
            statuses: Box::new([302]),
            copy: Box::default(),
            predicates: predicates.into(),
            cross_scheme: CrossScheme::Refused,
        };
        let (a, b): (Str, Str) = ("a".into(), "b".into());
        let step = |was_secure, is_secure| Step { from: &a, to: &b, was_secure, is_secure };
        let mut followed = Followed::default();
        let listed = policy(vec![RedirectPredicate::AllowListed(Box::new(["a".into()]))]);
        assert!(!listed.accepts(&mut followed, &step(false, false)));
        let once = policy(vec![RedirectPredicate::PreviousRoutes]);
        assert!(once.accepts(&mut followed, &step(false, false)));
        assert!(!once.accepts(&mut followed, &step(false, false)));
        assert!(once.accepts(&mut followed, &Step { from: &b, ..step(false, false) }));
        let safe = policy(vec![RedirectPredicate::SafeCrossScheme]);
        assert!(!safe.accepts(&mut followed, &step(false, true)));
        assert!(safe.accepts(&mut followed, &step(true, true)));
        assert!(safe.accepts(&mut followed, &step(true, false)));
        assert!(!safe.allows(&followed, true, false) && safe.allows(&followed, true, true));
        followed.count = 2;
        assert!(!safe.allows(&followed, true, true));
    }
}

"""Policies and calls from small alphabets, so that they meet often."""

from __future__ import annotations

from hypothesis import strategies as st

from tulle.model.access import (
    AccessAction,
    AccessPolicy,
    AccessRule,
    Attribute,
    Clause,
    Condition,
    Guard,
    PeerMode,
    ValueKind,
    ValueMatch,
)
from tulle.model.meta import Meta
from tulle.model.source import SourceRef
from tulle.policy.request import Call, HttpRequest

AT = SourceRef("policy.yaml", 1, 1)
PORTS = (80, 9000)

PRINCIPALS = ("cluster.local/ns/a/sa/x", "cluster.local/ns/a/sa/y", "cluster.local/ns/ab/sa/x")
NETWORKS = ("10.0.0.0/8", "10.1.0.1/32", "127.0.0.1/32", "::1/128")
ADDRESSES = ("10.1.0.1", "10.2.0.1", "127.0.0.1", "::1")
PATHS = ("/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/a//b")
TEMPLATES = ("/{*}", "/a/{*}", "/a/{**}", "/{*}/b/{**}", "/a/{**}/c")
WORDS = {
    Attribute.PRINCIPAL: PRINCIPALS,
    Attribute.NAMESPACE: ("a", "ab", "b"),
    Attribute.REQUEST_PRINCIPAL: ("iss/sub", "http://i/s", "http://i", "/", "x"),
    Attribute.AUDIENCE: ("web", "webs"),
    Attribute.PRESENTER: ("web", "app"),
    Attribute.CLAIM: ("admin", "admins", ""),
    Attribute.HEADER: ("1", "12", ""),
    Attribute.HOST: ("shop", "Shop.example", "shop:80"),
    Attribute.METHOD: ("GET", "POST", "P"),
    Attribute.PATH: PATHS,
    Attribute.SNI: ("shop", "shop.example"),
}
PATTERNS = (ValueKind.EXACT, ValueKind.PREFIX, ValueKind.SUFFIX, ValueKind.PRESENT)


def _value(attribute: Attribute) -> st.SearchStrategy[ValueMatch]:
    if attribute in (Attribute.SOURCE_IP, Attribute.REMOTE_IP, Attribute.DESTINATION_IP):
        return st.sampled_from(NETWORKS).map(lambda each: ValueMatch(ValueKind.CIDR, each))
    if attribute is Attribute.PORT:
        return st.sampled_from(PORTS).map(lambda each: ValueMatch(ValueKind.EXACT, str(each)))
    if attribute is Attribute.ACCOUNT:
        return st.sampled_from(("a/x", "ab/x", "b/x")).map(lambda each: ValueMatch(ValueKind.EXACT, each))
    words = st.builds(_pattern, st.sampled_from(PATTERNS), st.sampled_from(WORDS[attribute]))
    if attribute is Attribute.PATH:
        templates = st.sampled_from(TEMPLATES).map(lambda each: ValueMatch(ValueKind.TEMPLATE, each))
        return words | templates
    return words


def _pattern(kind: ValueKind, word: str) -> ValueMatch:
    return ValueMatch(kind) if kind is ValueKind.PRESENT else ValueMatch(kind, word)


@st.composite
def _condition(draw: st.DrawFn, among: tuple[Attribute, ...]) -> Condition:
    attribute = draw(st.sampled_from(among))
    values = draw(st.lists(_value(attribute), min_size=1, max_size=2))
    key: tuple[str, ...] = ()
    if attribute is Attribute.HEADER:
        key = ("x-a",)
    elif attribute is Attribute.CLAIM:
        key = draw(st.sampled_from((("role",), ("deep", "role"))))
    return Condition(AT, attribute, tuple(values), draw(st.booleans()), key)


OF_THE_CALL = (
    Attribute.HOST,
    Attribute.METHOD,
    Attribute.PATH,
    Attribute.HEADER,
    Attribute.PORT,
)
OF_THE_CALLER = (
    Attribute.PRINCIPAL,
    Attribute.NAMESPACE,
    Attribute.ACCOUNT,
    Attribute.SOURCE_IP,
    Attribute.REMOTE_IP,
    Attribute.REQUEST_PRINCIPAL,
)


def _clause(among: tuple[Attribute, ...]) -> st.SearchStrategy[Clause]:
    return st.lists(_condition(among), max_size=2).map(lambda each: Clause(tuple(each)))


def _alternatives(among: tuple[Attribute, ...]) -> st.SearchStrategy[tuple[Clause, ...] | None]:
    return st.none() | st.lists(_clause(among), min_size=1, max_size=2).map(tuple)


_RULE = st.builds(
    AccessRule,
    st.just(AT),
    _alternatives(OF_THE_CALLER),
    _alternatives(OF_THE_CALL),
    _clause(tuple(Attribute)),
)


@st.composite
def _policies(draw: st.DrawFn) -> tuple[AccessPolicy, ...]:
    written = draw(
        st.lists(
            st.tuples(
                st.sampled_from((AccessAction.DENY, AccessAction.ALLOW, AccessAction.AUDIT)),
                st.lists(_RULE, max_size=2),
                st.integers(0, 3).map(lambda n: n == 0),
            ),
            max_size=3,
        )
    )
    return tuple(
        AccessPolicy(policy_meta(index), action, tuple(rules), dry_run=dry)
        for index, (action, rules, dry) in enumerate(written)
    )


def policy_meta(index: int) -> Meta:
    return Meta(index, "a", f"p{index}", "AuthorizationPolicy", AT)


RULES = _RULE
GUARDS = _policies().map(lambda policies: Guard(PeerMode.PERMISSIVE, policies))

_TEXTS = st.sampled_from(("admin", "admins", "web", ""))
_CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "iss": st.sampled_from(("iss", "http://i", "http:")),
        "sub": st.sampled_from(("sub", "s", "/i/s", "")),
        "aud": _TEXTS | st.lists(_TEXTS, max_size=2),
        "azp": st.sampled_from(("web", "app")),
        "role": _TEXTS | st.lists(_TEXTS, max_size=2) | st.just(7),
        "deep": st.just("flat") | st.fixed_dictionaries({"role": _TEXTS}),
    },
)
_REQUESTS = st.builds(
    HttpRequest,
    st.sampled_from(("GET", "POST", "PUT")),
    st.sampled_from(PATHS),
    st.sampled_from(("shop", "SHOP", "shop.example", "shop:80")),
    st.fixed_dictionaries({}, optional={"x-a": st.sampled_from(("1", "12", "2", ""))}),
    st.none() | _CLAIMS,
)
CALLS = st.builds(
    Call,
    st.sampled_from(PORTS),
    st.none() | st.sampled_from((*PRINCIPALS, "cluster.local/ns/b/sa/x")),
    st.none() | _REQUESTS,
    st.sampled_from(ADDRESSES),
    st.sampled_from(ADDRESSES),
    st.sampled_from(ADDRESSES),
    st.sampled_from(("", "shop", "shop.example")),
)

"""Reads what both forms of service-intentions have in common, and checks what a schema cannot say."""

from __future__ import annotations

from dataclasses import dataclass

from tulle.dialects.consul import schema
from tulle.dialects.findings import Findings
from tulle.objects import Path

_KINDS = ("present", "exact", "prefix", "suffix", "contains", "regex")


@dataclass(frozen=True, slots=True)
class Intentions:
    """The destination's name and namespace, and its sources, which stand at ``("spec", "sources")``."""

    name: str
    namespace: str
    sources: tuple[schema.Source, ...]


Spec = schema.ConfigEntrySpec | schema.ServiceIntentionsSpec


def checked(name: str, namespace: str, spec: Spec, findings: Findings) -> Intentions:
    """The intentions, with errors for what contradicts itself or asks for tokens."""
    own = findings.obj.namespace
    if namespace != own:
        message = f"intentions must be in their destination's namespace {namespace}, not in {own}"
        findings.error("wrong-value", message, ("spec", "destination", "namespace"))
    if spec.jwt is not None:
        _no_tokens(("spec", "jwt"), findings)
    seen: dict[tuple[str, str | None], int] = {}
    for index, source in enumerate(spec.sources):
        at: Path = ("spec", "sources", index)
        if seen.setdefault((source.name, source.namespace), index) != index:
            findings.error("duplicate-source", f"source '{source.name}' is there twice", (*at, "name"))
        if source.namespace == "*" and source.name != "*":
            message = "with namespace * the name must be * too"
            findings.error("wrong-value", message, (*at, "namespace"))
        if (source.action is None) is (source.permissions is None):
            message = "must say one of action and permissions"
            findings.error("conflicting-fields" if source.action else "missing-field", message, at)
        for number, permission in enumerate(source.permissions or ()):
            _check_permission(permission, (*at, "permissions", number), findings)
    return Intentions(name, namespace, tuple(spec.sources))


def _no_tokens(path: Path, findings: Findings) -> None:
    message = "a token is not asked for by intentions yet: without the check anybody would get through"
    hint = "write a RequestAuthentication, and an AuthorizationPolicy with requestPrincipals"
    findings.error("unsupported", message, path, hint)


def _check_permission(permission: schema.Permission, path: Path, findings: Findings) -> None:
    http = permission.http
    if permission.jwt is not None:
        _no_tokens((*path, "jwt"), findings)
    paths = [each for each in (http.path_exact, http.path_prefix, http.path_regex) if each is not None]
    if len(paths) > 1:
        message = "must say only one of pathExact, pathPrefix and pathRegex"
        findings.error("conflicting-fields", message, (*path, "http"))
    if not paths and not http.header and not http.methods:
        message = "must have a condition on the path, on headers or on methods"
        findings.error("missing-field", message, (*path, "http"), "without one, action says the same")
    for index, header in enumerate(http.header):
        said = [kind for kind in _KINDS if getattr(header, kind) not in (None, False)]
        if len(said) != 1:
            message = f"must say exactly one of {', '.join(_KINDS)}"
            findings.error("conflicting-fields", message, (*path, "http", "header", index))

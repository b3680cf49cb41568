"""What schemas refuse, in words and at the place; and what they let pass with a warning."""

from __future__ import annotations

import pytest

from tulle.dialects import Lowered, conditions, lower
from tulle.dialects.fields import check_regex
from tulle.model.diagnostics import Severity
from tulle.sources.yaml_reader import read_yaml


def _lower(text: str) -> Lowered:
    (obj,), diagnostics = read_yaml(text, "x.yaml")
    assert diagnostics == ()
    return lower(obj)


def _virtual_service(spec: str) -> Lowered:
    head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n"
    return _lower(head + spec)


def test_every_error_is_reported_at_once_in_the_order_of_the_text() -> None:
    lowered = _virtual_service(
        "  hosts: [a]\n  htp: []\n  http:\n  - retries: {atempts: 3}\n    timeout: soon\n"
        "    route: [{destination: {hots: a}}]\n"
    )
    assert lowered.fragments == ()
    assert [
        (each.source.line, each.source.column, each.code, each.field) for each in lowered.diagnostics
    ] == [
        (6, 3, "unknown-field", "spec.htp"),
        (8, 15, "unknown-field", "spec.http[0].retries.atempts"),
        (9, 14, "wrong-value", "spec.http[0].timeout"),
        (10, 27, "missing-field", "spec.http[0].route[0].destination.host"),
        (10, 28, "unknown-field", "spec.http[0].route[0].destination.hots"),
    ]
    assert lowered.diagnostics[1].hint == "did you mean 'attempts'?"


def test_unknown_fields_far_from_any_known_one_list_what_there_is() -> None:
    (diagnostic,) = _virtual_service(
        "  hosts: [a]\n  http: [{route: [{destination: {host: a, zzz: 1}}]}]\n"
    ).diagnostics
    assert diagnostic.hint == "known are host, port, subset"


def test_known_but_unsupported_fields_warn_and_the_object_stays() -> None:
    lowered = _virtual_service(
        "  hosts: [a]\n  http: [{match: [{statPrefix: x}], route: [{destination: {host: a}}]}]\n"
    )
    assert len(lowered.fragments) == 1
    (warning,) = lowered.diagnostics
    assert (warning.severity, warning.code) == (Severity.WARNING, "unsupported")
    assert warning.field == "spec.http[0].match[0].statPrefix"


def test_null_counts_as_left_out() -> None:
    lowered = _virtual_service(
        "  hosts: [a]\n  tls:\n  http: [{match: ~, route: [{destination: {host: a}}]}]\n"
    )
    assert lowered.diagnostics == ()


def test_a_null_field_must_exist_all_the_same() -> None:
    (wrong,) = _virtual_service(
        "  hosts: [a]\n  htpp: ~\n  http: [{route: [{destination: {host: a}}]}]\n"
    ).diagnostics
    assert (wrong.code, wrong.field, wrong.source.line) == ("unknown-field", "spec.htpp", 6)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("timeout: 5", "must be a duration such as 10s or 1m30s, not 5"),
        ("timeout: -5s", 'must be a duration such as 10s, 250ms or 1m30s, not "-5s"'),
        ("timeout: 9999999h", 'must be at most ten years, not "9999999h"'),
        ("retries: {attempts: 1, perTryTimeout: 1us}", "must be at least 1ms"),
        ("retries: {attempts: '1'}", 'must be an integer, not "1"'),
        ("retries: {attempts: true}", "must be an integer, not true"),
        ("match: {uri: {exact: /}}", "must be a list, not a mapping"),
        ("match: [{uri: /}]", 'must be a mapping, not "/"'),
        ("match: [{uri: {exact: a, regex: b}}]", "must say only one of exact, regex"),
        ("match: [{uri: {regex: '('}}]",
         "must be a regular expression: missing ), unterminated subpattern at position 0"),
        ("match: [{uri: {regex: '(a)\\1'}}]",
         "must be RE2, which has no look-around, back-reference or possessive repetition: '\\\\1'"),
        ("match: [{uri: {regex: 'a{2000}'}}]",
         "must not repeat more than 1000 times, one in the other taken together (RE2)"),
        ("match: [{port: 70000}]", "must be at most 65535, not 70000"),
        ("match: [{headers: {'@request.auth.claims': {exact: x}}}]",
         'must be @request.auth.claims.NAME or @request.auth.claims[NAME], not "@request.auth.claims"'),
        ("match: [{headers: {'@request.auth.claims[a': {exact: x}}}]",
         'must be @request.auth.claims.NAME or @request.auth.claims[NAME], not "@request.auth.claims[a"'),
        ("match: [{headers: {'a b': {exact: x}}}]", 'must be a header name, not "a b"'),
        ('headers: {request: {set: {a: "x\\ny"}}}', "must be a header value, without control characters"),
        ("fault: {abort: {percentage: {value: .nan}}}", "input should be a finite number"),
    ],
)  # fmt: skip
def test_wrong_values_say_what_would_be_right(rule: str, message: str) -> None:
    lowered = _virtual_service(
        f"  hosts: [a]\n  http:\n  - {rule}\n    route: [{{destination: {{host: a}}}}]\n"
    )
    assert message in [each.message for each in lowered.diagnostics]
    assert lowered.has_errors


@pytest.mark.parametrize(
    "host",
    ["", "a..b", "-a", "a|b", "a b", "*.", "**.a", "a.*.b", "x" * 64, "é", ".a", "a/b", "a:80"],
)
def test_hosts_that_are_none(host: str) -> None:
    assert _virtual_service(f"  hosts: ['{host}']\n  http: [{{redirect: {{uri: /}}}}]\n").has_errors


@pytest.mark.parametrize("name", ["A", "a|b", "a b", "-a", "a" * 254, "a\\nb", "é"])
def test_names_cannot_reach_resource_names_unchecked(name: str) -> None:
    text = f'apiVersion: v1\nkind: Service\nmetadata: {{name: "{name}"}}\nspec: {{ports: [{{port: 80}}]}}\n'
    assert _lower(text).has_errors


def test_kinds_and_versions_that_are_not_read() -> None:
    (kind,) = _lower("apiVersion: v1\nkind: Servce\nmetadata: {name: a}\n").diagnostics
    assert (kind.code, kind.source.line) == ("unknown-kind", 2)
    assert kind.hint is not None
    assert "did you mean Service?" in kind.hint
    (version,) = _lower("apiVersion: v2\nkind: Service\nmetadata: {name: a}\n").diagnostics
    assert (version.code, version.hint) == ("unknown-api-version", "Service is read as v1")
    (neither,) = _lower("apiVersion: acme/v1\nkind: Rocket\nmetadata: {name: a}\n").diagnostics
    assert neither.hint is not None
    assert "VirtualService" in neither.hint


def test_a_value_that_fits_no_alternative_is_one_error() -> None:
    head = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: "
    (wrong,) = _lower(head + "{ports: [{port: 80, targetPort: [web]}]}\n").diagnostics
    assert wrong.message == "must be an integer or a string, not a list"
    assert wrong.field == "spec.ports[0].targetPort"


def test_conditions_tell_the_owner() -> None:
    head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: "
    for spec, status, reason in (
        ("{hosts: [a], http: [{redirect: {uri: /}}]}", "True", "Accepted"),
        ("{hosts: [a, a], http: [{redirect: {uri: /}}]}", "True", "AcceptedWithWarnings"),
        ("{hosts: [a], htp: []}", "False", "Invalid"),
    ):
        (obj,), _ = read_yaml(f"{head}{spec}\n", "x.yaml")
        (condition,) = conditions(obj, lower(obj).diagnostics)
        assert (condition.type, condition.status, condition.reason) == ("Reconciled", status, reason)


@pytest.mark.parametrize(
    ("pattern", "accepted"),
    [
        ("a{1000}", True),
        ("a{1001}", False),
        ("(a{10}b{20}){50}", True),
        ("(a{10}b{21}){50}", False),
        ("((a{100}){100}){100}", False),
        (r"\(a{999}\){999}", True),
        ("[({]{999}(a{999})", True),
        ("a{99999999999}", False),
    ],
)
def test_counted_repetitions_within_each_other_multiply(pattern: str, accepted: bool) -> None:
    if accepted:
        assert check_regex(pattern) == pattern
    else:
        with pytest.raises(ValueError, match="1000 times"):
            check_regex(pattern)

"""HCL as Consul reads it: what its documentation prints, with the place of every value; refusals with places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.dialects import lower_all
from tulle.sources.hcl_compose import compose_hcl
from tulle.sources.yaml_compose import RefusedError
from tulle.sources.yaml_reader import read_yaml

HCL = """\
# who may call api
Kind = "service-intentions"
Name = "api"
Meta { team = "a" }
Sources = [
  {
    Name   = "web" // the front
    Permissions = [
      {
        Action = "allow"
        HTTP {
          PathPrefix = "/v2"
          Methods    = ["GET", "PUT",]
          Header     = [{ Name = "x-a", Present = true }]
        }
      }
    ]
  },
  { Name = "*"  Action = "deny" }
]
"""

BLOCKS = """\
kind = "service-intentions"
name = "api"
sources { name = "web", permissions { action = "allow", http { path_prefix = "/v2", methods = ["GET", "PUT"],
  header { name = "x-a", present = true } } } }
sources { name = "*", action = "deny" }
"""

JSON = """\
{"Kind": "service-intentions", "Name": "api", "Sources": [
  {"Name": "web", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/v2", "Methods": ["GET", "PUT"],
    "Header": [{"Name": "x-a", "Present": true}]}}]},
  {"Name": "*", "Action": "deny"}]}
"""


def _spec(text: str, file: str) -> object:
    [found], findings = read_yaml(text, file)
    assert findings == ()
    assert not lower_all([found]).diagnostics
    return {key: value for key, value in found.body["spec"].items() if key != "meta"}


def test_every_form_of_an_entry_is_the_same() -> None:
    assert _spec(HCL, "a.hcl") == _spec(BLOCKS, "b.hcl") == _spec(JSON, "c.json")


def test_findings_have_the_place_in_the_text() -> None:
    wrong = HCL.replace('"deny"', '"denied"').replace("PathPrefix", "PathPrefx")
    objects, findings = read_yaml(wrong, "a.hcl")
    assert findings == ()
    found = {str(each.source): each.code for each in lower_all(objects).diagnostics}
    assert found == {"a.hcl:12:11": "unknown-field", "a.hcl:19:26": "wrong-value"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('a = "${b}"', (1, 5)),
        ("a = [1 2]", (1, 8)),
        ("a = {", (1, 6)),
        ('a = "b', (1, 5)),
        ("a = 1\na = 2", (2, 1)),
        ("a", (1, 2)),
        ('a "label" {}', (1, 3)),
        ("a = b", (1, 5)),
        ("= 1", (1, 1)),
        ('a = "\\q"', (1, 5)),
        ("a = <<X\nb", (1, 5)),
        ("a = " + "[" * 40, (1, 37)),
    ],
)
def test_refusals_name_their_place(text: str, place: tuple[int, int]) -> None:
    with pytest.raises(RefusedError) as refused:
        compose_hcl(text)
    assert (refused.value.line, refused.value.column) == place


def test_values() -> None:
    text = 'a = <<-E\n  x\n  E\nb = -1.5\nc = null\nd = "\\u00e9\\n"\n/* x\n */ e = [true, false, 3]\nf { g = {} }\n'
    value, marks = compose_hcl(text)
    assert value == {"a": "  x\n", "b": -1.5, "c": None, "d": "é\n", "e": [True, False, 3], "f": {"g": {}}}
    assert marks.fields is not None
    assert marks.fields["e"][0] == (8, 5)


@given(st.text(alphabet='ab={}[],:"\\n #/*<E1.-$\n', max_size=80))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        value, _ = compose_hcl(text)
    except RefusedError:
        return
    assert isinstance(value, dict)

"""The settings of the mesh, in every kind that can say them, with the place of every value."""

from __future__ import annotations

from tulle.dialects import Lowered, lower_all
from tulle.link import Linked, link
from tulle.model.diagnostics import Severity
from tulle.model.settings import LogEncoding, MeshSettings, OutboundPolicy, PathNormalization, TlsVersion
from tulle.sources.yaml_reader import read_yaml

CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |-
    # as istiod's
    accessLogFile: ""
    accessLogEncoding: JSON
    outboundTrafficPolicy:
      mode: ALLOW_ANY
    trustDomainAliases: [old.example.com]
    pathNormalization: {normalization: MERGE_SLASHES}
    tlsDefaults:
      minProtocolVersion: TLSV1_3
      ecdhCurves: [X25519MLKEM768, X25519]
    enableAutoMtls: false
    rootNamespace: mesh
    defaultConfig:
      tracing: {sampling: 50}
"""


def _lowered(text: str) -> Lowered:
    objects, findings = read_yaml(text, "in.yaml")
    assert findings == ()
    return lower_all(objects)


def _linked(text: str) -> Linked:
    lowered = _lowered(text)
    assert not [str(found) for found in lowered.diagnostics if found.severity is Severity.ERROR]
    return link(lowered.fragments)


def test_a_config_map_says_everything() -> None:
    settings = _linked(CONFIG_MAP).mesh.settings
    assert settings.access_log.path is None
    assert settings.access_log.encoding is LogEncoding.JSON
    assert settings.outbound is OutboundPolicy.ALLOW_ANY
    assert settings.trust_domains == ("cluster.local", "old.example.com")
    assert settings.path_normalization is PathNormalization.MERGE_SLASHES
    assert settings.tls.minimum is TlsVersion.V1_3
    assert settings.tls.curves == ("X25519MLKEM768", "X25519")
    assert settings.root_namespace == "mesh"
    assert not settings.auto_mtls
    assert settings.tracing.sampling.millionths == 500_000


def test_an_operator_says_the_same() -> None:
    mesh = CONFIG_MAP.partition("mesh: |-\n")[2]
    operator = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: i}\nspec:\n  meshConfig:\n"
    assert _linked(operator + mesh).mesh.settings == _linked(CONFIG_MAP).mesh.settings


def test_what_is_not_said_stays() -> None:
    bare = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: ''}\n"
    assert _linked(bare).mesh.settings == MeshSettings()


def test_findings_inside_the_text_have_its_lines_and_columns() -> None:
    wrong = CONFIG_MAP.replace("mode: ALLOW_ANY", "mode: ALLOW_ALL").replace("enableAutoMtls", "enableAutoMtsl")
    found = {str(each.source): each.code for each in _lowered(wrong).diagnostics}
    assert found == {"in.yaml:10:13": "wrong-value", "in.yaml:16:5": "unknown-field"}


def test_a_syntax_error_inside_the_text_has_its_line() -> None:
    _, findings = read_yaml(CONFIG_MAP.replace("mode: ALLOW_ANY", "mode: {"), "in.yaml")
    [found] = findings
    assert (found.code, found.source.line) == ("yaml-syntax", 12)


def test_text_that_is_not_a_block_is_read_too() -> None:
    text = (
        '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},'
        ' "data": {"mesh": "outboundTrafficPolicy:\\n  mode: ALLOW_ANY\\n"}}'
    )
    assert _linked(text).mesh.settings.outbound is OutboundPolicy.ALLOW_ANY


def test_unsupported_fields_are_said() -> None:
    lowered = _lowered(CONFIG_MAP + "    connectTimeout: 1s\n    meshMTLS: {minProtocolVersion: TLSV1_2}\n")
    assert [(each.code, each.field) for each in lowered.diagnostics] == [
        ("unsupported", "data.mesh.connectTimeout"),
        ("no-effect", "data.mesh.meshMTLS.minProtocolVersion"),
    ]


def test_log_formats_are_checked_where_they_are_written() -> None:
    text = CONFIG_MAP + """    accessLogFormat: '{"a": "%PROTOCOLL%", "b": ["%UPSTREAM_METADATA(a:b)% %REQ(A)%"]}'\n"""
    wrong, absent = _lowered(text).diagnostics
    assert (wrong.code, wrong.field) == ("wrong-value", "data.mesh.accessLogFormat")
    assert wrong.hint == "did you mean %PROTOCOL%?"
    assert (wrong.source.line, wrong.severity, absent.severity) == (20, Severity.ERROR, Severity.WARNING)
    assert "%UPSTREAM_METADATA(a:b)%" in absent.message


def test_key_exchanges_of_the_mesh_and_of_others_are_apart() -> None:
    text = CONFIG_MAP + "    meshMTLS: {ecdhCurves: [X25519MLKEM768, X25519]}\n"
    settings = _linked(text).mesh.settings
    assert settings.mesh_curves == ("X25519MLKEM768", "X25519")
    assert settings.tls.curves == _linked(CONFIG_MAP).mesh.settings.tls.curves
    [found] = _lowered(CONFIG_MAP + "    meshMTLS: {ecdhCurves: [X25519, P-521]}\n").diagnostics
    assert (found.code, found.field) == ("unsupported", "data.mesh.meshMTLS.ecdhCurves[1]")


def test_another_config_map_has_no_effect_and_that_is_said() -> None:
    for meta in ("{name: istio}", "{name: other, namespace: istio-system}"):
        lowered = _lowered(CONFIG_MAP.replace("{name: istio, namespace: istio-system}", meta))
        assert lowered.fragments == ()
        assert [each.code for each in lowered.diagnostics] == ["no-effect"]


def test_the_older_of_two_has_its_way() -> None:
    other = (
        "---\napiVersion: tulle.dev/v1alpha1\nkind: MeshSettings\nmetadata: {name: own}\nspec:\n"
        "  egress: {unknownHosts: RegistryOnly, allowedAddresses: [127.0.0.0/8]}\n"
    )
    linked = _linked(CONFIG_MAP + other)
    assert linked.mesh.settings.outbound is OutboundPolicy.ALLOW_ANY
    assert linked.mesh.settings.allowed_addresses == ("127.0.0.0/8",)
    [found] = linked.diagnostics
    assert (found.code, str(found.source), str(found.related[0])) == (
        "settings-conflict",
        "in.yaml:25:26",
        "in.yaml:10:13",
    )


def test_another_trust_domain_than_the_authoritys_is_refused() -> None:
    lowered = _lowered(CONFIG_MAP + "    trustDomain: example.com\n")
    [found] = link(lowered.fragments).diagnostics
    assert (found.severity, found.code, str(found.source)) == (Severity.ERROR, "trust-domain", "in.yaml:20:18")


def test_every_address_cannot_be_allowed() -> None:
    kind = "apiVersion: tulle.dev/v1alpha1\nkind: MeshSettings\nmetadata: {name: a}\n"
    spec = kind + "spec: {egress: {allowedAddresses: ['%s']}}\n"
    for block in ("0.0.0.0/0", "::/0", "127.0.0.1/8", "x"):
        assert [each.code for each in _lowered(spec % block).diagnostics] == ["wrong-value"]

"""The printed ValidatingWebhookConfiguration: exactly the kinds that are read, and no deadlock of the cluster."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tulle.api.webhook import PATH
from tulle.cli import webhook as command
from tulle.cli.main import tulle
from tulle.controlplane.webhook_manifest import CORE, manifest
from tulle.dialects import known_kinds

ROOT = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def test_every_kind_is_asked_about_once_in_each_version_and_nothing_else() -> None:
    made = manifest("tulle-webhook", {"url": "https://mesh"}, ROOT, 10)
    asked = [
        (group, version, resource)
        for each in made["webhooks"]
        for rule in each["rules"]
        for group in rule["apiGroups"]
        for version in rule["apiVersions"]
        for resource in rule["resources"]
    ]
    read = [
        (info.group, version, info.plural) for info in known_kinds() if info.in_clusters for version in info.versions
    ]
    assert sorted(asked) == sorted(read)
    assert ("consul.hashicorp.com", "v1", "service-intentions") not in asked, "that is in files only"


def test_it_is_what_kubernetes_takes() -> None:
    made = manifest("tulle-webhook", {"url": "https://mesh"}, ROOT, 10)
    assert (made["apiVersion"], made["kind"]) == ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration")
    names = [each["name"] for each in made["webhooks"]]
    assert len(set(names)) == len(names)
    for each in made["webhooks"]:
        assert len(each["name"].split(".")) >= 3
        assert (each["sideEffects"], each["matchPolicy"], each["timeoutSeconds"]) == ("None", "Equivalent", 10)
        assert each["admissionReviewVersions"] == ["v1"]
        assert base64.b64decode(each["clientConfig"]["caBundle"]).decode() == ROOT


def test_only_what_the_cluster_stands_on_is_stored_unasked() -> None:
    """Its Services' endpoints are what the webhook itself is reached by."""
    for each in manifest("tulle-webhook", {"url": "https://mesh"}, ROOT, 10)["webhooks"]:
        core = {group in CORE for rule in each["rules"] for group in rule["apiGroups"]}
        resources = {resource for rule in each["rules"] for resource in rule["resources"]}
        own = core == {True} and resources != {"configmaps"}
        assert each["failurePolicy"] == ("Ignore" if own else "Fail")


def printed(tmp_path: Any, *words: str) -> Any:
    roots = tmp_path / "root.pem"
    roots.write_text(ROOT)
    return CliRunner().invoke(tulle, ["webhook", "manifest", "--ca-file", str(roots), *words])


@pytest.mark.parametrize(
    ("words", "client"),
    [
        (["--service", "mesh/hook"], {"service": {"namespace": "mesh", "name": "hook", "port": 443, "path": PATH}}),
        (["--service", "a/b:8443"], {"service": {"namespace": "a", "name": "b", "port": 8443, "path": PATH}}),
        (["--url", "https://mesh.example:15017"], {"url": f"https://mesh.example:15017{PATH}"}),
        (["--url", "https://mesh.example/validate"], {"url": "https://mesh.example/validate"}),
    ],
)
def test_it_is_printed_for_a_service_or_a_url(tmp_path: Any, words: list[str], client: dict[str, Any]) -> None:
    shown = printed(tmp_path, *words)
    assert shown.exit_code == 0, shown.output
    [first, *_] = yaml.safe_load(shown.output)["webhooks"]
    assert first["clientConfig"] == {**client, "caBundle": base64.b64encode(ROOT.encode()).decode()}
    assert command.PATH == PATH
    assert "&id" not in shown.output, "people edit it"


@pytest.mark.parametrize(
    "words",
    [[], ["--service", "hook"], ["--service", "mesh/hook:99999"], ["--url", "http://mesh"], ["--url", "https://a:b"],
     ["--url", "https://me@mesh"], ["--url", "https://mesh/?x=1"], ["--service", "a/b", "--url", "https://mesh"]],
)  # fmt: skip
def test_what_kubernetes_would_not_take_is_refused(tmp_path: Any, words: list[str]) -> None:
    assert printed(tmp_path, *words).exit_code == 2


def test_a_file_without_certificates_is_refused(tmp_path: Any) -> None:
    nothing = tmp_path / "none.pem"
    nothing.write_text("nothing")
    words = ["webhook", "manifest", "--url", "https://a", "--ca-file", str(nothing)]
    shown = CliRunner().invoke(tulle, words)
    assert shown.exit_code != 0

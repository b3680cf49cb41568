"""The ValidatingWebhookConfiguration that has a cluster ask the webhook about exactly the kinds that are read."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from tulle.dialects import KindInfo, known_kinds

CORE = frozenset({"", "discovery.k8s.io"})
"""Groups of Kubernetes itself."""

SETTINGS = ("", "ConfigMap")
SETTINGS_NAME, SETTINGS_NAMESPACE = "istio", "istio-system"

OWN_NAMESPACES = ("kube-node-lease", "kube-public", "kube-system")
"""Where Kubernetes keeps what it runs by."""

_NAMESPACE_LABEL = "kubernetes.io/metadata.name"


def manifest(name: str, client: Mapping[str, Any], roots: str, timeout: int) -> dict[str, Any]:
    """The configuration. ``client`` is its `clientConfig` without `caBundle`, which holds ``roots`` (PEM); ``timeout``
    is in seconds.

    What Kubernetes itself cannot go on without (Services, their endpoints, Namespaces) is stored although nobody
    answers: otherwise the control plane, away for a moment, could never be reached again.
    """
    kinds = [info for info in known_kinds() if info.in_clusters]
    settings = [info for info in kinds if (info.group, info.kind) == SETTINGS]
    core = [info for info in kinds if info.group in CORE and info not in settings]
    mesh = [info for info in kinds if info.group not in CORE]
    own = {"key": _NAMESPACE_LABEL, "operator": "NotIn", "values": list(OWN_NAMESPACES)}
    the_settings = {
        "namespaceSelector": {"matchLabels": {_NAMESPACE_LABEL: SETTINGS_NAMESPACE}},
        "matchConditions": [{"name": "settings", "expression": f"request.name == '{SETTINGS_NAME}'"}],
    }
    common = {
        "clientConfig": {**client, "caBundle": base64.b64encode(roots.encode()).decode()},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": timeout,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {"name": "mesh.webhook.tulle.dev", "failurePolicy": "Fail", "rules": rules(mesh), **common},
            {"name": "settings.webhook.tulle.dev", "failurePolicy": "Fail", "rules": rules(settings),
             **the_settings, **common},
            {"name": "kubernetes.webhook.tulle.dev", "failurePolicy": "Ignore", "rules": rules(core),
             "namespaceSelector": {"matchExpressions": [own]}, **common},
        ],
    }  # fmt: skip


def rules(kinds: Iterable[KindInfo]) -> list[dict[str, Any]]:
    """One rule for all kinds of a group that have the same versions. In a namespace or not: of IstioOperator, which has
    none here, clusters have namespaced ones.
    """
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for info in kinds:
        found.setdefault((info.group, info.versions), []).append(info.plural)
    return [
        {
            "apiGroups": [group],
            "apiVersions": list(versions),
            "resources": sorted(resources),
            "operations": ["CREATE", "UPDATE"],
            "scope": "*",
        }
        for (group, versions), resources in sorted(found.items())
    ]

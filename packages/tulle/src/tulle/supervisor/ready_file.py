"""The ready file: tells programs, atomically, that every workload is ready and where everything is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tulle.supervisor.unit import Unit


def describe_workload(unit: Unit) -> dict[str, Any]:
    """A workload's entry. ``inbound`` is the sidecar's port for the first declared port, 0 without ports. In a network
    namespace are the application's ``ports`` and the sidecar's ``outbound``; its inbound and admin ports never are.
    """
    site, view = unit.site, unit.site.view
    ports = [{"name": port.name, "port": port.app, "inbound": port.listen} for port in site.inbound]
    return {
        "namespace": view.namespace,
        "name": view.name,
        "service_account": view.service_account,
        "address": view.address,
        "ports": ports,
        "outbound": site.outbound,
        "inbound": ports[0]["inbound"] if ports else 0,
        "admin": site.admin,
        "network_namespace": None if site.namespace is None else str(site.namespace.path),
        "pid": unit.pid,
        "proxy_pid": unit.proxy.child.pid,
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """Puts ``content`` at ``path`` in one step: a reader sees the old file, none, or all of the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)

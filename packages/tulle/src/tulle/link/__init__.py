"""Fragments to one `Mesh`: references resolved, objects attached and merged, findings collected."""

from __future__ import annotations

from tulle.link.compile import Linked, link, relink_endpoints

__all__ = ["Linked", "link", "relink_endpoints"]

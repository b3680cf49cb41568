"""Listeners of a sidecar in host mode: one inbound per application port, one outbound, one per upstream."""

"""Keeps a workload's identity for data planes that cannot: Envoy (over SDS) and proxyless gRPC (in files)."""

"""Delivers snapshots to proxies over ADS: sans-IO sessions under a thin gRPC server."""

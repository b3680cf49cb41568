"""Runs a mesh on this machine: control plane, a sidecar per workload and the workloads' own processes."""

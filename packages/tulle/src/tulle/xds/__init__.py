"""What one proxy is told: `emit(scope(mesh, proxy))` is a snapshot of Envoy xDS v3 resources."""

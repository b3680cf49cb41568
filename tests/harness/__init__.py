"""What several suites share: running a proxy on a static bootstrap, identities, HTTP/1.1 as it is on the wire."""

"""The benchmark: pairs of sidecars with mutual TLS between them, compared under the same load (`make bench`)."""

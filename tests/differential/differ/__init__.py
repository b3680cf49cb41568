"""The differential harness: one configuration and one script of calls into real Envoy and into tulle-proxy, compared."""

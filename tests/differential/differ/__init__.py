"""The differential harness: one configuration and one script of calls into Envoy and into tulle-proxy, compared."""

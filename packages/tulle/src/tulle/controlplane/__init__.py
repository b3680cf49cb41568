"""The control plane: the one place where sources, dialects, link, emission, delivery, identity and API meet."""

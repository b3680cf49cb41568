"""Trust, joining, issuing, rotation: the only room where cryptography happens (with the agent's own key)."""

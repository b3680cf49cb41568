"""The typed picture of a mesh: what dialects lower to (fragments) and what link yields (`Mesh`); standard library only."""

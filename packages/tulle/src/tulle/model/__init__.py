"""The typed picture of a mesh: fragments, which dialects lower to, and the `Mesh` that link makes of them."""

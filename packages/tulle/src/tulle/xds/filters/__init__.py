"""HTTP filters: one file for each that a rule can configure, and the table of their order."""

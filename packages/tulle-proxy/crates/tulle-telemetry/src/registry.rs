//! Metric families, label sets and per-worker sheets of plain numbers.

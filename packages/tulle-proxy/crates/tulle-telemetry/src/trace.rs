//! Trace context: B3 and W3C, parsed, started and passed on.

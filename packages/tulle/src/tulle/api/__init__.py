"""The admin API: what a running mesh tells, and what it can be told, over HTTP on loopback."""

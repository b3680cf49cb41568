"""Runs the cases: compiles their configuration, renders goldens, and sends their calls through real proxies."""

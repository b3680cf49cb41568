"""Tulle: a service mesh that speaks the configuration people already write."""

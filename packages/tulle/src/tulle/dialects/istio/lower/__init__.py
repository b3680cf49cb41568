"""Lowers Istio objects to the model, one file per kind."""

"""Istio's networking API as it is written; v1, v1beta1 and v1alpha3 are the same messages."""

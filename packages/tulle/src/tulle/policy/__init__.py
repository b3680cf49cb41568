"""Asks the linked mesh who may do what: a plain reading of the policies, apart from how data planes are told."""

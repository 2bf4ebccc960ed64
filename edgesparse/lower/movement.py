"""Placeholder until helper 5 writes it."""

LOWERINGS = {}

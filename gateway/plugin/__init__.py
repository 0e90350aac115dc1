"""Connectors: discovery, checks and calls."""

"""Finding, checking and calling connectors."""

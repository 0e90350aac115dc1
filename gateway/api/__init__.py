"""The contract between the gateway and its connectors."""

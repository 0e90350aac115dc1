"""Life of a running gateway: start, stop, reload and maintenance."""

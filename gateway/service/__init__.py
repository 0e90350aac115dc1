"""One running gateway: start, stop, reload and maintenance."""

"""Harnesses: they break, shake or walk through the whole gateway and judge what is left."""

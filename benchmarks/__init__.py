"""Measurements of the store; run them with `just bench`."""

"""Loops that run as long as the process serves."""

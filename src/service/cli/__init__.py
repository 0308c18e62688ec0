"""The commands of `jobstate` that run beside the server."""

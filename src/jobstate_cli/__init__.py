"""The commands of `jobstate` that use a service over its HTTP API."""

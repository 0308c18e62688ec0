"""ASGI middleware. `stack` says in which order a request passes it."""

"""HTTP: controllers, request bodies, conditions and problem details. No Redis."""

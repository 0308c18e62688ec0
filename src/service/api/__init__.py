"""The REST API. It uses the store and never Redis directly."""

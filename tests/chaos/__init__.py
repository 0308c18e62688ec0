"""Chaos tests in the manner of Jepsen: clients, injected faults, and a checker of the recorded history."""

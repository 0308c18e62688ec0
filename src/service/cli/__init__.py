"""The commands `jobstate serve`, `jobstate doctor` and `jobstate key`."""

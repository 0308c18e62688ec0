"""The commands `jobstate serve`, `jobstate doctor`, `jobstate copy` and `jobstate key`."""

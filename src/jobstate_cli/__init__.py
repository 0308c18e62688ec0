"""The terminal's side of a jobstate service, which it knows over HTTP alone: one module for each command or three."""

"""What every client of a jobstate service shares, the worker and the terminal."""

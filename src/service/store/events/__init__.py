"""The event stream of Redis: one reader per process, and its subscribers."""

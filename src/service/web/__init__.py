"""Pages for browsers: the dashboard at `/` and the API reference at `/schema`. They load nothing from other hosts."""

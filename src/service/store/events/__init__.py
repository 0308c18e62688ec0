"""Events of the store: the reader, and what waits for and follows them."""

"""What a browser shows: the live page at `/`, the API document's at `/schema`; nothing of them comes from elsewhere."""

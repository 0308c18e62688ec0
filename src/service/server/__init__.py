"""The HTTP server: uvicorn, set up for this service, in one process or several."""

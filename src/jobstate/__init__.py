"""Code that the worker and the command line share."""

"""The job store on Redis: key names, records, scripts and the repository in front of them. No HTTP."""

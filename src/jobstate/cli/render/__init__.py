"""What the commands draw: progress, tables, the dashboard, text and JSON."""

"""Tasks that run repeatedly as long as the process serves."""

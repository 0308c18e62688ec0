"""The commands, one module each. The group imports them on use."""

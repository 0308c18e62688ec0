"""Job storage on Redis: keys, records, Lua scripts and the managers that run them. No HTTP."""

"""The model of a job: its fields, its states, the rules for values and the errors. No Redis, no HTTP."""

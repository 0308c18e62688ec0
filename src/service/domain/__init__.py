"""What a job is and which changes it may go through: no Redis, no HTTP."""

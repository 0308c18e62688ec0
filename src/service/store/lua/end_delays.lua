-- Makes the jobs due whose delays are over, at most a batch of them, and wakes the claims of their queues.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many delays to look at
-- Returns: ENDED with the time (µs), when the next delay is over (µs, empty for none), and the ids of the jobs that were
--          skipped because a key of theirs is not ours
local skipped = end_delays(ARGV[1])
return { 'ENDED', to_integer_string(NOW), next_delay(), skipped }

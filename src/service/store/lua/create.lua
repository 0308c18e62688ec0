-- Creates a job, or says that an equal or another one has its id.
--
-- KEYS: 1 the job's record, 2 the partition's root
-- ARGV: 1 retention (ms), 2 number of partitions, 3 number of this partition, 4 job id, 5 queue, 6 slate_id (empty for none),
--       7 tags (comma-separated), 8 priority (s), 9 digest of the request, 10 id of this one request, 11 delay (µs, 0 for
--       none), 12 start time-out (ms, 0 for none), 13 … field, value, … of the record, without queue and slate_id
-- Returns: CREATED with created_at, expires_at, and available_at and start_deadline_at (empty if the job has none)
--          REPLAYED with the time, the whole record and 1 if it is the very request that created the job, sent again because
--          its reply was lost, or 0 if it is an equal one
--          DRAINING with the milliseconds that it lasts, unless it is ended before
--          EXISTS with status and revision: another request created it
local fields = { unpack(ARGV, 13) }
local job = { id = ARGV[4], queue = ARGV[5], slate_id = ARGV[6] ~= '' and ARGV[6] or nil, tags = ARGV[7],
  priority = tonumber(ARGV[8]), digest = ARGV[9], request = ARGV[10], delay = tonumber(ARGV[11]),
  start_timeout = tonumber(ARGV[12]), fields = fields }
return create(job, tonumber(ARGV[1]), ARGV[2], ARGV[3])

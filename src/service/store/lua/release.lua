-- Gives a leased job back; it is pending again, or failed without attempts left, or cancelled if that was asked for.
--
-- KEYS: 1 the job's hash, 2 the partition's root
-- ARGV: 1 job id, 2 change id, 3 digest of the release, 4 retention (ms), 5 lease token (empty for none),
--       6 seconds before it may be claimed again (empty: the job's own after a failure, else none),
--       7 error_message (absent unless the attempt has failed)
-- Returns: CHANGED or UNCHANGED with the time (µs) and the whole hash
--          NOT_FOUND; also where this release was made of another job of this id, which is deleted since
--          LEASE_LOST, NOT_LEASED with status and revision
--          KEY_REUSED: the last change had this id and another content
local id, change_id, digest, token, delay = ARGV[1], ARGV[2], ARGV[3], ARGV[5], tonumber(ARGV[6])
local job = load_whole(id)
if not job or is_of_deleted(id, change_id) then return { 'NOT_FOUND' } end
if lease_is_lost(job, token) then return { 'LEASE_LOST', job.status, digits(job.revision) } end
local again = repetition(job, change_id, digest)
if again then return again end
if not job.lease then return { 'NOT_LEASED', job.status, digits(job.revision) } end
expect_giving_back(job.queue)
expect_shared()

local at = give_back(job, { failed = ARGV[7] ~= nil, error_message = ARGV[7], retention = tonumber(ARGV[4]),
  delay = delay and delay * 1000000, change = change_id .. ':' .. digest })
return { 'CHANGED', digits(at), flat(job.record) }

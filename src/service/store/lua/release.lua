-- Gives a leased job back; it is pending again, or failed without attempts left, or cancelled if that was asked for.
--
-- KEYS: 1 the job's record, 2 the partition's root
-- ARGV: 1 job id, 2 change id, 3 digest of the release, 4 retention (ms), 5 lease token (empty for none),
--       6 seconds before it may be claimed again (empty: the job's own after a failure, else none),
--       7 how long deletions are remembered (ms), 8 error_message (absent unless the attempt has failed)
-- Returns: CHANGED or UNCHANGED with the time (µs) and the whole record
--          NOT_FOUND; also where this release was made of another job of this id, which is deleted since
--          LEASE_LOST, NOT_LEASED with status and revision
--          KEY_REUSED: the last change had this id and another content
local id, change_id, digest, token, delay = ARGV[1], ARGV[2], ARGV[3], ARGV[5], tonumber(ARGV[6])
local job = load_job_with_record(id)
if not job or was_on_deleted_job(job, change_id, tonumber(ARGV[7])) then return { 'NOT_FOUND' } end
if lease_is_lost(job, token) then return refuse('LEASE_LOST', job) end
local replayed = replay(job, change_id, digest)
if replayed then return replayed end
if not job.has_lease then return refuse('NOT_LEASED', job) end

local message = ARGV[8]
release_job(job, { failed = message ~= nil, retention = tonumber(ARGV[4]), delay = delay and delay * 1000000,
  error_messages = { pending = message, failed = message, cancelled = message }, change = change_id .. ':' .. digest })
return finish({ 'CHANGED', NOW, public(job) })

-- Extends the lease of a running job, and stores its progress.
--
-- KEYS: 1 the job's record, 2 the partition's root
-- ARGV: 1 job id, 2 lease token, 3 seconds of the lease (empty for as many as before), 4 retention (ms),
--       5 progress (empty for none)
-- Returns: EXTENDED with the end of the lease (ms), 1 if a cancel was asked for (else 0), 1 if the progress is new (else 0),
--          run_deadline_at (empty if the job has none)
--          NOT_FOUND
--          LEASE_LOST with status and revision
local id, token, retention, progress = ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[5]

-- Nearly all heartbeats need no more of the record than this.
local status, revision, holder, lease_expires_at, lease_seconds, expires_at, cancel_requested_at, old_progress,
  run_deadline_at = unpack(call('HMGET', KEYS[1], 'status', 'revision', '_token', 'lease_expires_at', 'lease_seconds',
    'expires_at', 'cancel_requested_at', 'progress', 'run_deadline_at'))
if not status then return { 'NOT_FOUND' } end
if not lease_expires_at or token ~= holder then return { 'LEASE_LOST', status, revision } end
local seconds = ARGV[3] == '' and lease_seconds or ARGV[3]
local lease, expires = NOW_MS + (tonumber(seconds) or reject_record(id)) * 1000, parse_time(expires_at) or reject_record(id)
local is_new = progress ~= '' and progress ~= old_progress
local reply = { 'EXTENDED', format('%d', lease), cancel_requested_at and 1 or 0, is_new and 1 or 0, run_deadline_at or '' }
-- The retention is extended when less than half of it is left, or the lease would outlast it.
local keeps_retention = expires / 1000 - NOW_MS >= retention / 2 and expires / 1000 >= lease + LEASE_GRACE
if keeps_retention and not is_new then
  call('ZADD', key('leases'), lease, id)
  redis.call('HSET', KEYS[1], 'lease_seconds', seconds, 'lease_expires_at', format_time(lease * 1000))
  return reply
end

local job = load_job(id)
if is_new then
  change(job, { status = 'running', retention = retention, lease = lease, is_progress = true,
    set = { progress = progress, lease_seconds = seconds } })
else
  expires = format('%d', retention_deadline(0, retention, lease))
  add_score(key('leases'), lease, id, lease_expires_at)
  add_score(key('by_expiry'), expires, expiry_member(job), expires_at)
  redis.call('HSET', KEYS[1], 'lease_seconds', seconds, 'lease_expires_at', format_time(lease * 1000), 'expires_at',
    format_time(expires * 1000))
  redis.call('PEXPIREAT', KEYS[1], expires)
end
return finish(reply)

-- Takes jobs from workers whose leases have expired, at most a batch of them.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many leases to look at, 2 retention (ms), 3 the error_message of a job that is pending again thereby, 4 that
--       of one that has failed
-- Returns: REAPED with the time (µs), when the next lease expires or has expired (ms, empty if there is none), id
--          and error of each job that was skipped because a key of it is not ours, then job id, status, …
local limit, retention = tonumber(ARGV[1]), tonumber(ARGV[2])
local leases, reaped, skipped = key('leases'), {}, {}

local function reap(id)
  local job = load_job(id)
  local lease = job and job.has_lease and floor(parse_time(job.fields.lease_expires_at) / 1000)
  if not lease then
    redis.call('ZREM', leases, id)
  elseif lease > NOW_MS then
    redis.call('ZADD', leases, lease, id)
  else
    local status = release_job(job, { failed = true, error_messages = { pending = ARGV[3], failed = ARGV[4] },
      retention = retention, unset = { '_token' } })
    reaped[#reaped + 1] = id
    reaped[#reaped + 1] = status
  end
end

for _, id in ipairs(call('ZRANGE', leases, '-inf', NOW_MS, 'BYSCORE', 'LIMIT', 0, limit)) do
  local stands, failure = attempt(reap, id)
  if not stands then redis.call('ZADD', leases, NOW_MS + SKIP_RETRY_MS, id) end
  if failure then note_skipped(skipped, id, failure) end
end
local following = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
return { 'REAPED', NOW, following and format('%d', following) or '', skipped, unpack(reaped) }

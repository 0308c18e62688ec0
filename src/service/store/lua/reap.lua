-- Takes jobs from workers whose lease has run out, at most a batch of them.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many leases to look at, 2 retention (ms), 3 the error_message of a job that is pending again thereby, 4 that
--       of one that has failed
-- Returns: REAPED with the time (µs), when the next lease runs out or has run out (ms, empty if there is none), the ids of
--          the jobs that were passed over because a key of theirs is not ours, then job id, status, …
local batch, retention = tonumber(ARGV[1]), tonumber(ARGV[2])
local leases, reaped, passed_over = key('leases'), {}, {}
expect_shared()

local function reap(job)
  local message
  if not job.cancel then message = job.failures + 1 < job.max_attempts and ARGV[3] or ARGV[4] end
  give_back(job, { failed = true, error_message = message, retention = retention, unset = { '_token' } })
  reaped[#reaped + 1] = job.id
  reaped[#reaped + 1] = redis.call('HGET', job_key(job.id), 'status')
end

local at = math.floor(now() / 1000)
for _, id in ipairs(redis.call('ZRANGE', leases, '-inf', digits(at), 'BYSCORE', 'LIMIT', 0, batch)) do
  local ours, job = pcall(load, id)
  if ours and not (job and job.lease) then
    redis.call('ZREM', leases, id)
  elseif ours and job.lease > at then
    redis.call('ZADD', leases, digits(job.lease), id)
  elseif ours and pcall(expect_giving_back, job.queue) then
    reap(job)
  else
    passed_over[#passed_over + 1] = id
    redis.call('ZADD', leases, digits(at + PASSED_OVER), id)
  end
end
local following = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2] or ''
return { 'REAPED', digits(now()), following, passed_over, unpack(reaped) }

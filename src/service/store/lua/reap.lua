-- Takes jobs from workers whose lease has run out, at most a batch of them.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many leases to look at, 2 retention (ms), 3 the error_message of a job that has failed thereby
-- Returns: REAPED with the time (µs), 1 if there may be more (else 0), when the next lease runs out (ms, empty if there is
--          none), then job id, status, …
local batch, retention = tonumber(ARGV[1]), tonumber(ARGV[2])
local leases, reaped = key('leases'), {}
expect('zset', leases)

local function reap(job)
  expect_giving_back(job.queue)
  local fails = not job.cancel and job.failures + 1 >= job.max_attempts
  give_back(job, { failed = true, error_message = fails and ARGV[3] or nil, retention = retention, unset = { '_token' } })
  reaped[#reaped + 1] = job.id
  reaped[#reaped + 1] = redis.call('HGET', job_key(job.id), 'status')
end

local at = math.floor(now() / 1000)
local over = redis.call('ZRANGE', leases, '-inf', digits(at), 'BYSCORE', 'LIMIT', 0, batch)
for _, id in ipairs(over) do
  local ours, job = pcall(load, id)
  if not (ours and job and job.lease) then -- expired, or not ours any more
    redis.call('ZREM', leases, id)
  elseif job.lease <= at then
    reap(job)
  else
    redis.call('ZADD', leases, digits(job.lease), id)
  end
end
local following = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2] or ''
return { 'REAPED', digits(now()), #over >= batch and 1 or 0, following, unpack(reaped) }

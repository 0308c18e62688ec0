-- Ends attempts whose run time-out is over, and jobs whose start time-out is over, at most a batch of them.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many timers to look at, 2 retention (ms), 3 the error_message of a job that is pending again after its run
--       time-out, 4 that of one that has failed, 5 that of one that was not started in time
-- Returns: TIMED_OUT with the time (µs), when the next time-out is over (ms, empty if there is none), id and error of each
--          job that was skipped because a key of it is not ours, then job id, kind, status, …
local limit, retention = tonumber(ARGV[1]), tonumber(ARGV[2])
local timers, ended, skipped = key('timers'), {}, {}

local function time_out(member)
  local kind, id = member:match('^(%a+):[^:]*:(.*)$')
  local job = id and load_job(id)
  if not job or job.timer ~= kind or timer_member(kind, job) ~= member then
    return redis.call('ZREM', timers, member)
  end
  local deadline = deadline_of(job)
  if deadline > NOW_MS then return redis.call('ZADD', timers, deadline, member) end
  local status = 'failed'
  if kind == 'run' then
    status = release_job(job, { failed = true, error_messages = { pending = ARGV[3], failed = ARGV[4] },
      retention = retention, unset = { '_token' } })
  else
    change(job, { status = status, retention = retention, set = { error_message = ARGV[5] } })
  end
  ended[#ended + 1], ended[#ended + 2], ended[#ended + 3] = id, kind, status
end

for _, member in ipairs(call('ZRANGE', timers, '-inf', NOW_MS, 'BYSCORE', 'LIMIT', 0, limit)) do
  local stands, failure = attempt(time_out, member)
  if not stands then redis.call('ZADD', timers, NOW_MS + SKIP_RETRY_MS, member) end
  if failure then note_skipped(skipped, member:match('^[^:]*:[^:]*:(.*)$') or member, failure) end
end
local following = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')[2]
return { 'TIMED_OUT', NOW, following and format('%d', following) or '', skipped, unpack(ended) }

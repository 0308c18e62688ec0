-- Makes the jobs due whose delays are over, at most a batch of them, and wakes the claims of their queues.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many delays to look at
-- Returns: ENDED with the time (µs), when the next delay is over (µs, empty for none), when the next time-out is over (ms,
--          empty for none; 0 where `timers` is not ours), and id and error of each job that was skipped because a key of it
--          is not ours
local delays, skipped, woken = key('delays'), {}, {}

local function end_delay(member)
  local job = load_job(member:match('^[^:]*:(.*)$') or '')
  if not (job and job.state == 'delayed' and delay_member(job) == member) then
    redis.call('ZREM', delays, member)
  elseif job.available > NOW then
    redis.call('ZADD', delays, job.available, member)
  else
    add_to_lists(job, due_state(job))
    if not woken[job.queue] then emit('queue', 'queue', job.queue) end
    commit()
    woken[job.queue] = true
    remove_from_lists(job, 'delayed')
  end
end

for _, member in ipairs(call('ZRANGE', delays, '-inf', format('%d', NOW), 'BYSCORE', 'LIMIT', '0', ARGV[1])) do
  local stands, failure = attempt(end_delay, member)
  if not stands then redis.call('ZADD', delays, NOW + SKIP_RETRY_MS * 1000, member) end
  if failure then note_skipped(skipped, member:match('^[^:]*:(.*)$') or member, failure) end
end
local next_delay = redis.call('ZRANGE', delays, '0', '0', 'WITHSCORES')[2]
local next_timer = redis.pcall('ZRANGE', key('timers'), '0', '0', 'WITHSCORES')
next_timer = next_timer.err and 0 or next_timer[2]
return { 'ENDED', NOW, next_delay and format('%d', next_delay) or '', next_timer and format('%d', next_timer) or '', skipped }

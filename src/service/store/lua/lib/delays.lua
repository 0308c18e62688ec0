-- Delays that are over.

local function end_delay(member)
  local job = load_job(member:match('^[^:]*:(.*)$') or '')
  if not (job and job.state == 'delayed' and delay_member(job) == member) then
    redis.call('ZREM', key('delays'), member)
  elseif job.available > NOW then
    redis.call('ZADD', key('delays'), job.available, member)
  else
    add_score(key('by_created', job.queue, 'pending'), job.created, job.id)
    commit()
    remove('ZREM', key('by_created', job.queue, 'delayed'), job.id)
    remove('ZREM', key('delays'), member)
    return job.queue
  end
end

-- Makes the jobs due whose delays are over, at most `limit` of them, and wakes the claims of their queues. Returns the ids of
-- those that were skipped, because a key of theirs is not ours.
local function end_delays(limit)
  local skipped, queues = {}, {}
  local members = redis.call('ZRANGE', key('delays'), '-inf', to_integer_string(NOW), 'BYSCORE', 'LIMIT', '0', limit)
  for _, member in ipairs(members) do
    local succeeded, stands = attempt(function()
      local queue = end_delay(member)
      if queue then queues[queue] = true end
    end)
    if not stands then redis.call('ZADD', key('delays'), NOW + SKIP_RETRY_MS * 1000, member) end
    if not succeeded then skipped[#skipped + 1] = member:match('^[^:]*:(.*)$') or member end
  end
  for queue in pairs(queues) do emit('queue', 'queue', queue) end
  return skipped
end

-- When the next delay is over (µs, empty for none).
local function next_delay()
  return redis.call('ZRANGE', key('delays'), 0, 0, 'WITHSCORES')[2] or ''
end

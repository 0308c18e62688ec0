-- Takes the jobs whose retention is over out of every index, at most a batch of them. Redis has deleted their records.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many jobs to look at
-- Returns: SWEPT with the number of jobs, 1 if there may be more (else 0), then entry and error of each one that was skipped
--          because a key of it is not ours
local by_expiry, limit = key('by_expiry'), tonumber(ARGV[1])
local swept, skipped, queues = 0, {}, {}

-- Removes a job from the indexes that have it under the creation of its entry: another job may have its id since.
local function sweep(member)
  local job = parse_expiry_member(member)
  if not job then return redis.call('ZREM', by_expiry, member) end
  local created_at, expires_at, lease, run_deadline, start_deadline = unpack(call('HMGET', job_key(job.id), 'created_at',
    'expires_at', 'lease_expires_at', 'run_deadline_at', 'start_deadline_at'))
  if created_at == format_time(tonumber(job.created)) then -- alive: the entry is wrong
    local expires = floor(parse_time(expires_at) / 1000)
    -- Redis tells what has expired by the time at which the script started, which may be earlier than `NOW_MS`.
    if expires < NOW_MS and NOW_MS - expires < 1000 then return end
    return redis.call('ZADD', by_expiry, math.max(expires, NOW_MS + SKIP_RETRY_MS), member)
  end
  local state = listed_state(job)
  local status = state and status_of(state) or 'pending'
  -- The slate is gone with the record: its tag tells who knows the slate.
  emit('expired', 'job_id', job.id, 'status', status, 'queue', job.queue, 'created', job.created, 'tags', job.tags)
  commit()
  swept = swept + 1
  queues[job.queue] = true

  if state then
    remove_from_lists(job, state)
  elseif not created_at then -- its list was lost
    remove('ZREM', key('by_priority', job.queue), job.id)
  end
  -- Without a state, another job of this id has its place in the list since.
  if not lease and (state == 'running' or not state) then remove('ZREM', key('leases'), job.id) end
  if not (run_deadline or start_deadline or FINAL[state]) then
    remove('ZREM', key('timers'), timer_member('run', job), timer_member('start', job))
  end
  local tag_entries = tag_members(job)
  if #tag_entries > 0 then remove('ZREM', key('tags'), unpack(tag_entries)) end
  remove('ZREM', by_expiry, member)
end

local members = call('ZRANGE', by_expiry, '-inf', '(' .. NOW_MS, 'BYSCORE', 'LIMIT', 0, limit)
for _, member in ipairs(members) do
  local stands, failure = attempt(sweep, member)
  if not stands then redis.call('ZADD', by_expiry, NOW_MS + SKIP_RETRY_MS, member) end
  if failure then note_skipped(skipped, member, failure) end
end
for queue in pairs(queues) do
  if not has_jobs(queue) then remove('SREM', key('queue_names'), queue) end
  if removal_error then note_skipped(skipped, queue, removal_error.err) end
  removal_error = nil
end
return { 'SWEPT', swept, #members == limit and 1 or 0, skipped }

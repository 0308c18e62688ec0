-- How jobs are created.

-- The time of the last creation (µs), and when a drain ends (ms), once they were read.
local last_creation, drain_end

-- Creates a job. It is a table: id, queue, slate_id (nil for none), tags (comma-separated), priority (s), digest of the
-- request, request (the id of this one), delay (µs, 0 for none), start_timeout (ms, 0 for none), fields (a list of field,
-- value, … of the record, without queue and slate_id), is_brief (true to reply without the large fields of a record).
-- `retention` is in ms; then come the number of partitions and that of this partition. Returns the reply of create.lua.
local function create(job, retention, partitions, number)
  local id, delay, fields, record, meta = job.id, job.delay, job.fields, job_key(job.id), key('meta')
  if redis.call('EXISTS', record) == 1 then
    local held = read_record(id)
    if held.status then
      if job.is_brief then held.input_params, held.result, held.error_message = nil, nil, nil end
      if held._creation ~= job.digest then return { 'EXISTS', held.status, held.revision } end
      return { 'REPLAYED', NOW, cmsgpack.pack(held), held._change == job.request and 1 or 0 }
    end
    reject_record(id)
  end
  if not last_creation then
    local clock, drain = unpack(call('HMGET', meta, 'clock', 'drain'))
    last_creation, drain_end = tonumber(clock or nil) or 0, tonumber(drain or nil) or 0
  end
  if drain_end > NOW_MS then return { 'DRAINING', drain_end - NOW_MS } end

  -- The clock makes the time of creation unique and never goes back: it is the order of lists and their cursor. Retention
  -- and delay run from now, so that a clock that was ahead once does not extend them.
  -- Each partition has times of its own, so they are unique over all: those with its number as the remainder.
  local earliest = math.max(NOW, last_creation + 1)
  local created = earliest + (number - earliest) % partitions
  job.created, job.created_micros = format('%d', created), created
  local expires = floor((NOW + delay) / 1000) + retention
  local deadline, start_deadline_at, available_at = job.start_timeout, '', ''
  if deadline > 0 then
    deadline = math.ceil((NOW + delay) / 1000) + deadline
    expires = math.max(expires, deadline + LEASE_GRACE)
  end
  local expires_at, created_at = format_time(expires * 1000), format_time(created)
  expires = format('%d', expires)

  -- Additions.
  add_to_lists(job, delay > 0 and 'delayed' or due_state(job))
  add_score(key('by_expiry'), expires, expiry_member(job))
  if job.tags ~= '' then
    local tags, members, scored = key('tags'), tag_members(job), {}
    for i = 1, #members do scored[2 * i - 1], scored[2 * i] = '0', members[i] end
    add('ZADD', tags, unpack(scored))
    for i = 1, #members do log_removal('ZREM', tags, members[i]) end
    fields[#fields + 1], fields[#fields + 2] = '_tags', job.tags
  end
  if BY then fields[#fields + 1], fields[#fields + 2] = '_by', BY end
  if job.slate_id then fields[#fields + 1], fields[#fields + 2] = 'slate_id', job.slate_id end
  if delay > 0 then
    add_score(key('delays'), NOW + delay, delay_member(job))
    available_at = format_time(NOW + delay)
    fields[#fields + 1], fields[#fields + 2] = 'available_at', available_at
  end
  if deadline > 0 then
    add_score(key('timers'), format('%d', deadline), timer_member('start', job))
    start_deadline_at = format_time(deadline * 1000)
    fields[#fields + 1], fields[#fields + 2] = 'start_deadline_at', start_deadline_at
  end
  if add('SADD', key('queue_names'), job.queue) == 1 then
    log_removal('SREM', key('queue_names'), job.queue)
  end
  emit_change('changed', job, 'pending', '1')

  -- The record.
  redis.call('HSET', meta, 'clock', job.created)
  redis.call('HSET', record, 'status', 'pending', 'revision', '1', 'created_at', created_at, 'updated_at', created_at,
    'expires_at', expires_at, 'queue', job.queue, '_creation', job.digest, '_change', job.request, unpack(fields))
  redis.call('PEXPIREAT', record, expires)
  commit()
  last_creation = created
  return { 'CREATED', created_at, expires_at, available_at, start_deadline_at }
end

-- Creates a job, or says that an equal or another one has its id.
--
-- KEYS: 1 the job's record, 2 the partition's root
-- ARGV: 1 job id, 2 digest of the request, 3 id of this one request, 4 retention (ms), 5 delay (µs, 0 for none), 6 queue,
--       7 slate_id (empty for none), 8 tags (comma-separated), 9 number of partitions, 10 number of this partition,
--       11 start time-out (ms, 0 for none), 12 priority (s), 13 … field, value, … of the record, without queue and slate_id
-- Returns: CREATED with created_at, expires_at, and available_at and start_deadline_at (empty if the job has none)
--          REPLAYED with the time, the whole record and 1 if it is the very request that created the job, sent again because
--          its reply was lost, or 0 if it is an equal one
--          DRAINING with the milliseconds that it lasts, unless it is ended before
--          EXISTS with status and revision: another request created it
local id, digest, request, retention, delay = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local record, meta = KEYS[1], key('meta')

if redis.call('EXISTS', record) == 1 then
  local held = read_record(id)
  if held.status then
    if held._creation ~= digest then return { 'EXISTS', held.status, held.revision } end
    return { 'REPLAYED', NOW, cmsgpack.pack(held), held._change == request and 1 or 0 }
  end
  reject_record(id)
end
local clock, draining_until = unpack(call('HMGET', meta, 'clock', 'drain'))
local draining = (tonumber(draining_until or nil) or 0) - NOW_MS
if draining > 0 then return { 'DRAINING', draining } end

-- The clock makes the time of creation unique and never goes back: it is the order of lists and their cursor. Retention
-- and delay run from now, so that a clock that was ahead once does not extend them.
-- Each partition has times of its own, so they are unique over all: those with its number as the remainder.
local earliest = math.max(NOW, (tonumber(clock or nil) or 0) + 1)
local created = earliest + (ARGV[10] - earliest) % ARGV[9]
local job = { id = id, queue = ARGV[6], slate_id = ARGV[7] ~= '' and ARGV[7] or nil, created = format('%d', created),
  created_micros = created, priority = tonumber(ARGV[12]), tags = ARGV[8] }
local expires = floor((NOW + delay) / 1000) + retention
local deadline, start_deadline_at, available_at = tonumber(ARGV[11]), '', ''
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
  ARGV[#ARGV + 1], ARGV[#ARGV + 2] = '_tags', job.tags
end
if BY then ARGV[#ARGV + 1], ARGV[#ARGV + 2] = '_by', BY end
if job.slate_id then ARGV[#ARGV + 1], ARGV[#ARGV + 2] = 'slate_id', job.slate_id end
if delay > 0 then
  add_score(key('delays'), NOW + delay, delay_member(job))
  available_at = format_time(NOW + delay)
  ARGV[#ARGV + 1], ARGV[#ARGV + 2] = 'available_at', available_at
end
if deadline > 0 then
  add_score(key('timers'), format('%d', deadline), timer_member('start', job))
  start_deadline_at = format_time(deadline * 1000)
  ARGV[#ARGV + 1], ARGV[#ARGV + 2] = 'start_deadline_at', start_deadline_at
end
if add('SADD', key('queue_names'), job.queue) == 1 then
  log_removal('SREM', key('queue_names'), job.queue)
end
emit_change('changed', job, 'pending', '1')

-- The record.
redis.call('HSET', meta, 'clock', job.created)
redis.call('HSET', record, 'status', 'pending', 'revision', '1', 'created_at', created_at, 'updated_at', created_at,
  'expires_at', expires_at, 'queue', job.queue, '_creation', digest, '_change', request, unpack(ARGV, 13))
redis.call('PEXPIREAT', record, expires)
return { 'CREATED', created_at, expires_at, available_at, start_deadline_at }

-- Finds jobs that are missing in an index or have another score there, and records with a wrong time to live.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 `check`, or `repair` what is found, 2 … job ids
-- Returns: CHECKED, then for each issue its type (missing, score, stray, lifetime, record, clock), the key, the member (empty
--          for the key itself), the actual and the expected value (each empty for none), and 1 if it was repaired (else 0)
-- It leaves alone keys of another type and records that cannot be read; these are reported by their names and fields.
local repairs = ARGV[1] == 'repair'
local result = { 'CHECKED' }

local function report(issue, name, member, actual, expected, repaired)
  for _, value in ipairs({ issue, name, member, actual, expected, repaired and 1 or 0 }) do result[#result + 1] = value end
end

local types = {}
local function type_ok(kind, name)
  types[name] = types[name] or redis.call('TYPE', name).ok
  return types[name] == kind or types[name] == 'none'
end

-- Returns whether the entry was there, with this score (text).
local function check_entry(name, member, score)
  if not type_ok('zset', name) then return true end
  local actual = redis.call('ZSCORE', name, member)
  if tonumber(actual or nil) == tonumber(score) then return true end
  if repairs then redis.call('ZADD', name, score, member) end
  report(actual and 'score' or 'missing', name, member, actual or '', score, repairs)
  return false
end

-- A claim that met the job in the list of another state would give it out once more.
local function remove_from_other_states(job)
  for _, state in ipairs(STATES) do
    local list = key('by_created', job.queue, state)
    if state ~= job.state and type_ok('zset', list) and redis.call('ZREM', list, job.id) == 1 then
      report('stray', list, job.id, job.status, '', true)
    end
  end
end

local function check_indexes(job, expires)
  local listed = check_entry(key('by_created', job.queue, job.state), job.id, job.created)
  if repairs and not listed then remove_from_other_states(job) end
  check_entry(key('by_expiry'), expiry_member(job), expires)
  for _, member in ipairs(tag_members(job)) do check_entry(key('tags'), member, '0') end
  if job.state == 'prioritized' then
    check_entry(key('by_priority', job.queue), job.id, format('%d', claim_order(job)))
  end
  if job.state == 'delayed' then check_entry(key('delays'), delay_member(job), format('%d', job.available)) end
  if job.timer then check_entry(key('timers'), timer_member(job.timer, job), format('%d', deadline_of(job))) end
  if job.has_lease then
    local lease = floor(parse_time(job.fields.lease_expires_at) / 1000)
    check_entry(key('leases'), job.id, format('%d', lease))
  end
  local names = key('queue_names')
  if type_ok('set', names) and redis.call('SISMEMBER', names, job.queue) == 0 then
    if repairs then redis.call('SADD', names, job.queue) end
    report('missing', names, job.queue, '', job.queue, repairs)
  end
end

local newest = 0
local function check_job(id)
  local name = job_key(id)
  local readable, job = load_readable_job(id)
  if not readable and redis.call('HSTRLEN', name, 'status') == 0 then report('record', name, '', 'no status', '') end
  if not job then return end
  if redis.call('HSTRLEN', name, 'input_params') == 0 then report('record', name, '', 'no input_params', '') end

  local expires_ms = floor(parse_time(job.fields.expires_at) / 1000)
  local actual, expires = redis.call('PEXPIRETIME', name), format('%d', expires_ms)
  if actual ~= expires_ms then
    if repairs then redis.call('PEXPIREAT', name, expires) end
    report('lifetime', name, '', actual < 0 and '' or format('%d', actual), expires, repairs)
  end
  if expires_ms < NOW_MS then return end
  newest = math.max(newest, job.created_micros)
  check_indexes(job, expires)
end

for i = 2, #ARGV do
  if type_ok('hash', job_key(ARGV[i])) then check_job(ARGV[i]) end
end

local meta = key('meta')
if type_ok('hash', meta) then
  local clock = redis.call('HGET', meta, 'clock') or ''
  if (tonumber(clock) or 0) < newest then
    if repairs then redis.call('HSET', meta, 'clock', format('%d', newest)) end
    report('clock', meta, 'clock', clock, format('%d', newest), repairs)
  end
end
return result

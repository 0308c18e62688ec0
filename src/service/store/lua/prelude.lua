-- What every script shares; put in front of it when it is loaded. The last of KEYS is always the partition's root.
-- Before the ARGV of a script's header comes one more, taken off here: the moment (µs) after which it must not run, because
-- its sender has given it up by then and has perhaps sent it again. It then answers LATE with the time.
local root = KEYS[#KEYS]
local not_after = tonumber(table.remove(ARGV, 1))
-- About as many events as this are kept, whole nodes of the stream at a time.
local EVENTS_KEPT = 100000

-- Key names: the twin of store/keys.py.
local function key(...)
  return root .. table.concat({ ... }, ':')
end

local function job_key(id)
  return (root == 'jobs:' and '' or root) .. 'job:' .. id
end

-- Times: microseconds since 1970 in numbers, ISO 8601 in records (days from civil and back, after Howard Hinnant).
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function iso(micros)
  local floor = math.floor
  local seconds = floor(micros / 1000000)
  local days, rest = floor(seconds / 86400) + 719468, seconds % 86400
  local era = floor(days / 146097)
  local of_era = days - era * 146097
  local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local shifted = floor((5 * of_year + 2) / 153)
  local day, month = of_year - floor((153 * shifted + 2) / 5) + 1, shifted < 10 and shifted + 3 or shifted - 9
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year + era * 400 + (month <= 2 and 1 or 0), month, day,
    floor(rest / 3600), floor(rest / 60) % 60, rest % 60, micros % 1000000)
end

local function micros(text)
  local floor = math.floor
  local year, month, day, hour, minute, second, fraction =
    (text or ''):match('^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)%.(%d+)Z$')
  if not year then return nil end
  month, day = tonumber(month), tonumber(day)
  year = tonumber(year) - (month <= 2 and 1 or 0)
  local era = floor(year / 400)
  local of_era = year - era * 400
  local of_year = floor((153 * (month > 2 and month - 3 or month + 9) + 2) / 5) + day - 1
  local days = era * 146097 + of_era * 365 + floor(of_era / 4) - floor(of_era / 100) + of_year - 719468
  return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000000 + fraction
end

-- A number as text without an exponent.
local function digits(number)
  return string.format('%.0f', number)
end

if now() > not_after then return { 'LATE', digits(now()) } end

-- Raises before the first write when a key that will be written holds another type.
local function expect(kind, ...)
  for _, name in ipairs({ ... }) do
    local found = redis.call('TYPE', name).ok
    if found ~= kind and found ~= 'none' then
      error({ err = 'WRONGTYPE ' .. name .. ' holds a ' .. found .. ' where a ' .. kind .. ' belongs' })
    end
  end
end

-- Lets a key live at least until `at` (ms). Indexes go by themselves with their latest entry, even with no replica alive;
-- those that the sweep reads (`exp`, `shelves`) outlive every index that it cleans by this much, the longest retention
-- and the longest delay together, so that a replica that comes back late still finds what to clean.
local SWEEP_GRACE = 730 * 86400000
local function keep(name, at)
  if redis.call('PEXPIRETIME', name) < at then
    redis.call('PEXPIREAT', name, digits(at))
  end
end

local function contains(words, word)
  return (' ' .. words .. ' '):find(' ' .. word .. ' ', 1, true) ~= nil
end

-- Turns name, value, name, value … from position `first` on into a table.
local function pairs_from(list, first)
  local fields = {}
  for i = first, #list, 2 do fields[list[i]] = list[i + 1] end
  return fields
end

-- A job in the indexes is a table: id, status, queue, shelf, created (µs), revision, expires (ms), available (µs, of a
-- delayed one), lease (ms, its end, of a leased one), tags. Its shelf is its status, or `delayed` while it is pending and
-- not due.

-- What slate and correlation are found by: a letter and 48 bits of a hash; the record settles collisions.
local function tag(kind, value)
  return kind .. redis.sha1hex(value):sub(1, 12)
end

local function tags(slate_id, correlation_id)
  local list = {}
  if slate_id then list[#list + 1] = tag('s', slate_id) end
  if correlation_id then list[#list + 1] = tag('c', correlation_id) end
  return list
end

-- A member of `tags`: fixed width before the id, so that the newest of a tag is the last in the order of bytes.
local function tagged(name, created, id)
  return name .. ':' .. string.format('%016.0f', created) .. ':' .. id
end

-- A member of `exp`: what the sweep needs to know of a job whose hash is gone.
local function epitaph(job)
  return table.concat({ job.id, digits(job.created), digits(job.revision), table.concat(job.tags, ',') }, '|')
end

local function due_member(job)
  return job.queue .. ':' .. job.id
end

-- Looks at every index that a job on these shelves of its queue is written to.
local function expect_indexes(queue, ...)
  for _, shelf in ipairs({ ... }) do
    expect('zset', key('list', queue, shelf), key('exp', queue, shelf))
  end
  expect('zset', key('shelves'), key('tags'), key('due'), key('leases'))
  expect('stream', key('events'))
end

local function put(job)
  local list, exp = key('list', job.queue, job.shelf), key('exp', job.queue, job.shelf)
  redis.call('ZADD', list, digits(job.created), job.id)
  redis.call('ZADD', exp, digits(job.expires), epitaph(job))
  redis.call('ZADD', key('shelves'), 'LT', digits(job.expires), job.queue .. ':' .. job.shelf)
  keep(list, job.expires)
  keep(exp, job.expires + SWEEP_GRACE)
  keep(key('shelves'), job.expires + SWEEP_GRACE)
  if job.shelf == 'delayed' then
    redis.call('ZADD', key('due'), digits(job.available), due_member(job))
    keep(key('due'), job.expires)
  end
  if job.lease then
    redis.call('ZADD', key('leases'), digits(job.lease), job.id)
    keep(key('leases'), job.expires)
  end
  for _, name in ipairs(job.tags) do
    redis.call('ZADD', key('tags'), 0, tagged(name, job.created, job.id))
    keep(key('tags'), job.expires)
  end
end

-- Off its shelf; the tags stay, for a job that only moves.
local function take(job)
  local exp = key('exp', job.queue, job.shelf)
  redis.call('ZREM', key('list', job.queue, job.shelf), job.id)
  redis.call('ZREM', exp, epitaph(job))
  if redis.call('EXISTS', exp) == 0 then redis.call('ZREM', key('shelves'), job.queue .. ':' .. job.shelf) end
  if job.shelf == 'delayed' then redis.call('ZREM', key('due'), due_member(job)) end
  if job.shelf == 'running' then redis.call('ZREM', key('leases'), job.id) end
end

local function untag(job)
  for _, name in ipairs(job.tags) do
    redis.call('ZREM', key('tags'), tagged(name, job.created, job.id))
  end
end

local function emit(event, job)
  local entry = { 'event', event, 'job_id', job.id, 'status', job.status, 'revision', digits(job.revision),
    'queue', job.queue, 'created', digits(job.created) }
  if job.slate_id then
    entry[#entry + 1] = 'slate_id'
    entry[#entry + 1] = job.slate_id
  elseif event == 'expired' then -- the slate went with the hash: its tag tells whoever knows the slate
    entry[#entry + 1] = 'tags'
    entry[#entry + 1] = table.concat(job.tags, ',')
  end
  redis.call('XADD', key('events'), 'MAXLEN', '~', EVENTS_KEPT, '*', unpack(entry))
end

-- Tells those who wait of something that is no change of a job.
local function tell(event, queue)
  redis.call('XADD', key('events'), 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', event, 'queue', queue)
end

-- Fields of the job behind an index entry, the first of them its status; nil if it has gone or was created again since.
local function current(id, created, ...)
  local held = redis.call('HMGET', job_key(id), 'created_at', 'status', ...)
  if held[1] ~= iso(created) then return nil end
  table.remove(held, 1)
  return held
end

-- The queue and the shelf behind a member of `shelves`.
local function shelf_of(member)
  return member:match('^(.*):(.*)$')
end

-- The first job of a list, by creation, that is still there: id and created (µs); nil if the first `most` entries have
-- none, or none that was created before `before`.
local function first_alive(list, most, before)
  local from, count = 0, 1 -- the first is nearly always alive
  while from < most do
    local heads = redis.call('ZRANGE', list, from, from + count - 1, 'WITHSCORES')
    for i = 1, #heads, 2 do
      local id, created = heads[i], tonumber(heads[i + 1])
      if before and created >= before then return nil end
      if current(id, created) then return id, created end
    end
    if #heads < 2 * count then return nil end
    from, count = from + count, count * 4
  end
end

-- A job as the indexes know it, and what decides about its changes, out of its hash; nil without one. Raises for a hash
-- that is not ours.
local function load(id)
  local names = { 'status', 'queue', 'created_at', 'updated_at', 'revision', 'expires_at', 'slate_id',
    'correlation_id', 'available_at', 'lease_expires_at', 'lease_seconds', 'cancel_requested_at', 'attempt', 'failures',
    'max_attempts', 'retry_delay_seconds', 'progress', '_change', '_token', '_progress_event' }
  local held = {}
  for i, value in ipairs(redis.call('HMGET', job_key(id), unpack(names))) do held[names[i]] = value or nil end
  if not held.status then return nil end
  local created, updated, expires = micros(held.created_at), micros(held.updated_at), micros(held.expires_at)
  local attempt, failures = tonumber(held.attempt or 0), tonumber(held.failures or 0)
  if not (held.queue and tonumber(held.revision) and created and updated and expires and attempt and failures) then
    error({ err = 'CORRUPT ' .. job_key(id) .. ' is not a record of ours' })
  end
  local job = { id = id, status = held.status, shelf = held.status, queue = held.queue, slate_id = held.slate_id,
    created = created, updated = updated, revision = tonumber(held.revision), expires = math.floor(expires / 1000),
    tags = tags(held.slate_id, held.correlation_id), last_change = held._change or '', progress = held.progress,
    progress_event = tonumber(held._progress_event or 0) or 0, token = held._token, attempt = attempt,
    failures = failures, max_attempts = tonumber(held.max_attempts or 1), cancel = held.cancel_requested_at,
    retry_delay = tonumber(held.retry_delay_seconds or 0), lease_seconds = tonumber(held.lease_seconds or 0) }
  if job.status == 'pending' and held.available_at and redis.call('ZSCORE', key('due'), due_member(job)) then
    job.shelf, job.available = 'delayed', micros(held.available_at)
  end
  local lease = micros(held.lease_expires_at)
  if lease then job.lease = math.floor(lease / 1000) end
  return job
end

-- Says whether a change must be refused for its token (empty for none): it must be the last one that was given, and a
-- leased job needs it.
local function lease_is_lost(job, token)
  if token == '' then return job.lease ~= nil end
  return token ~= job.token
end

local FINAL = { completed = true, failed = true, cancelled = true }
-- µs: newer progress within it is in the record, without an event of its own.
local PROGRESS_EVENT_EVERY = 1000000
-- ms: a job whose retention is shorter than its lease is kept so much longer than this, for the worker and the reaper.
local LEASE_GRACE = 60000

-- Until when (ms) a job is kept that changes at `real` (µs) and cannot be taken before `delay` (µs) is over.
local function kept_until(real, delay, retention, lease)
  return math.max(math.floor((real + delay) / 1000) + retention, lease and lease + LEASE_GRACE or 0)
end

-- Changes a job that `load` has found, whole: its record, indexes, lease and event. To be called when nothing refuses it
-- any more and every key was looked at. `what` is a table: status; retention (ms); set, a table of fields; unset, a list
-- of them; change, what the record keeps of the request (nil: what it has); delay (µs); lease (ms), its end; progress,
-- true if that is all that is new. Returns the time (µs).
local function change(job, what)
  -- Times of a record never go back; retention, delay, lease and the pace of events run from now all the same.
  local real = now()
  local at = math.max(real, job.updated)
  local status, delay, unset = what.status, what.delay or 0, what.unset or {}
  local moved = { id = job.id, status = status, shelf = delay > 0 and 'delayed' or status, queue = job.queue,
    slate_id = job.slate_id, tags = job.tags, created = job.created, revision = job.revision + 1,
    available = real + delay, lease = what.lease, expires = kept_until(real, delay, what.retention, what.lease) }
  local set = { 'status', status, 'revision', digits(moved.revision), 'updated_at', iso(at),
    'expires_at', iso(moved.expires * 1000) }
  local function also(name, value)
    set[#set + 1] = name
    set[#set + 1] = value
  end
  local function without(name)
    unset[#unset + 1] = name
  end
  local given = what.set or {}
  for name, value in pairs(given) do also(name, value) end
  if what.change then also('_change', what.change) end
  if moved.lease then also('lease_expires_at', iso(moved.lease * 1000)) else without('lease_expires_at') end
  if delay > 0 then also('available_at', iso(moved.available)) end
  if FINAL[status] then
    also('finished_at', iso(at))
    for _, name in ipairs({ 'result', 'error_message' }) do
      if not given[name] then without(name) end
    end
  elseif status == 'pending' then
    for _, name in ipairs({ 'worker', 'lease_seconds' }) do without(name) end
    if delay == 0 then without('available_at') end
  elseif job.status == 'pending' then
    also('attempt', digits(job.attempt + 1))
    also('started_at', iso(at))
  end
  local since_event = real - job.progress_event
  local quiet = what.progress and since_event >= 0 and since_event < PROGRESS_EVENT_EVERY
  if not what.progress then
    without('_progress_event')
  elseif not quiet then
    also('_progress_event', digits(real))
  end

  redis.call('HSET', job_key(job.id), unpack(set))
  if #unset > 0 then redis.call('HDEL', job_key(job.id), unpack(unset)) end
  redis.call('PEXPIREAT', job_key(job.id), digits(moved.expires))
  take(job)
  put(moved)
  if not quiet then emit('changed', moved) end
  return real
end

-- Takes a leased job from its holder: cancelled if that was asked for; after a failure failed, or pending while it may be
-- tried again. `what` is a table: failed; retention (ms); delay (µs; nil for the job's own after a failure, else none);
-- error_message (nil for none); change and unset as in `change`. Returns the time (µs).
local LONGEST_RETRY_DELAY = 3600
local function give_back(job, what)
  local failures = job.failures + (what.failed and 1 or 0)
  local set = { failures = digits(failures), error_message = what.error_message }
  local status, delay = 'pending', what.delay
  if job.cancel then
    status, delay = 'cancelled', 0
  elseif what.failed and failures >= job.max_attempts then
    status, delay = 'failed', 0
  elseif not delay then
    local seconds = what.failed and job.retry_delay * 2 ^ math.min(failures - 1, 12) or 0
    delay = math.min(seconds, LONGEST_RETRY_DELAY) * 1000000
  end
  return change(job, { status = status, retention = what.retention, delay = delay, set = set, change = what.change,
    unset = what.unset })
end

-- How a job moves, for the scripts that move one: its record, its lease, its changes. Put between the prelude and them when
-- they are loaded.

-- A job as the indexes know it, and what decides about its changes, out of its hash; nil without one. Raises for a hash
-- that is not ours.
local DECIDING = { 'status', 'queue', 'created_at', 'updated_at', 'revision', 'expires_at', 'slate_id',
  'correlation_id', 'available_at', 'lease_expires_at', 'lease_seconds', 'cancel_requested_at', 'attempt', 'failures',
  'max_attempts', 'retry_delay_seconds', 'progress', '_change', '_token', '_progress_event', '_history' }
local function understood(id, held)
  if not held.status then return nil end
  local created, updated, expires = micros(held.created_at), micros(held.updated_at), micros(held.expires_at)
  local revision, attempt, failures = tonumber(held.revision), tonumber(held.attempt or 0), tonumber(held.failures or 0)
  local max_attempts, retry_delay = tonumber(held.max_attempts or 1), tonumber(held.retry_delay_seconds or 0)
  local lease_seconds = tonumber(held.lease_seconds or 0)
  if not (held.queue and revision and created and updated and expires and attempt and failures and max_attempts
    and retry_delay and lease_seconds) then
    error({ err = 'CORRUPT ' .. job_key(id) .. ' is not a record of ours' })
  end
  local job = { id = id, status = held.status, shelf = held.status, queue = held.queue, slate_id = held.slate_id,
    created = created, updated = updated, revision = revision, expires = math.floor(expires / 1000),
    tags = tags(held.slate_id, held.correlation_id), last_change = held._change or '', progress = held.progress,
    progress_event = tonumber(held._progress_event or 0) or 0, token = held._token, attempt = attempt,
    failures = failures, max_attempts = max_attempts, cancel = held.cancel_requested_at, retry_delay = retry_delay,
    lease_seconds = lease_seconds, history = held._history }
  if job.status == 'pending' and held.available_at and redis.call('ZSCORE', key('due'), due_member(job)) then
    job.shelf, job.available = 'delayed', micros(held.available_at)
  end
  local lease = micros(held.lease_expires_at)
  if lease then job.lease = math.floor(lease / 1000) end
  return job
end

local function load(id)
  local held = {}
  for i, value in ipairs(redis.call('HMGET', job_key(id), unpack(DECIDING))) do held[DECIDING[i]] = value or nil end
  return understood(id, held)
end

-- The same for who answers with the record: `record` has every field, and `change` keeps it up to date. Not for who does
-- not: some fields are as large as a body.
local function load_whole(id)
  local held = pairs_from(redis.call('HGETALL', job_key(id)), 1)
  local job = understood(id, held)
  if job then job.record = held end
  return job
end

-- A record as HGETALL returns it.
local function flat(record)
  local list = {}
  for name, value in pairs(record) do
    list[#list + 1] = name
    list[#list + 1] = value
  end
  return list
end

-- Says whether a change must be refused for its token (empty for none): it must be the last one that was given, and a
-- leased job needs it.
local function lease_is_lost(job, token)
  if token == '' then return job.lease ~= nil end
  return token ~= job.token
end

local function unchanged(job)
  return { 'UNCHANGED', digits(now()), flat(job.record) }
end

-- The answer to a request with the id of the job's last change: the record as it is, or a refusal of another content. Nil
-- for a request with an id of its own.
local function repetition(job, change_id, digest)
  if job.last_change:sub(1, #change_id + 1) ~= change_id .. ':' then return nil end
  if job.last_change ~= change_id .. ':' .. digest then return { 'KEY_REUSED' } end
  return unchanged(job)
end

-- A member of `deletions` for the last change of a job that was deleted.
local function last_of_deleted(id, change_id)
  return ':' .. change_id .. ':' .. id
end

-- Says whether a request with this change id was the last change of another job of this id, which is deleted: then this one
-- is not meant. Where `deletions` is not ours, nothing is known.
local function is_of_deleted(id, change_id)
  return type(redis.pcall('ZSCORE', key('deletions'), last_of_deleted(id, change_id))) == 'string'
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

-- What a job's history keeps of each change but progress: µs since its creation, revision, and one of these letters (the
-- twin of store/history.py); `-` in front where older ones are gone.
local HISTORY_KEPT = 100
local LETTERS = { pending = 'p', running = 'r', completed = 'c', failed = 'f', cancelled = 'x', asked = 'q' }

-- Says whether a record is on a shelf that there is: one that is not was not written by us, although it can be loaded.
local function is_shelved(job)
  return job.status ~= 'asked' and LETTERS[job.status] ~= nil and job.queue:find('^%w[%w._~-]*$') ~= nil
end

-- Puts a job whose delay is not over on its shelf also where `due` has lost it.
local function delay_on(job)
  if job.shelf ~= 'pending' then return end
  local available = micros(redis.call('HGET', job_key(job.id), 'available_at') or '')
  if available and available > now() then job.shelf, job.available = 'delayed', available end
end

local function longer(history, entry)
  if not history then return entry end
  local _, kept = history:gsub('%d+:', '')
  if kept >= 2 * HISTORY_KEPT then history = '- ' .. history:gsub('^%- ', ''):match('^%S+ (.*)$') end
  return history .. ' ' .. entry
end

-- Changes a job that was loaded, whole: its record, indexes, lease and event. To be called when nothing refuses it
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
  local moment = iso(at)
  local set = { 'status', status, 'revision', digits(moved.revision), 'updated_at', moment,
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
    also('finished_at', moment)
    for _, name in ipairs({ 'result', 'error_message' }) do
      if not given[name] then without(name) end
    end
  elseif status == 'pending' then
    for _, name in ipairs({ 'worker', 'lease_seconds' }) do without(name) end
    if delay == 0 then without('available_at') end
  elseif job.status == 'pending' then
    also('attempt', digits(job.attempt + 1))
    also('started_at', moment)
  end
  if not what.progress then
    local letter = LETTERS[given.cancel_requested_at and 'asked' or status]
    also('_history', longer(job.history, table.concat({ digits(at - job.created), digits(moved.revision), letter }, ':')))
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
  if job.record then
    for i = 1, #set, 2 do job.record[set[i]] = set[i + 1] end
    for _, name in ipairs(unset) do job.record[name] = nil end
  end
  take(job)
  put(moved)
  if not quiet then emit('changed', moved) end
  return real
end

-- Extends the lease of a job for `seconds`, to end at `lease` (ms), and the retention when less than half of it is left or
-- the lease would outlast it; nothing else.
local function extend(job, seconds, lease, retention)
  local real = now()
  local set = { 'lease_seconds', digits(seconds), 'lease_expires_at', iso(lease * 1000) }
  job.lease = lease
  if job.expires - real / 1000 < retention / 2 or job.expires < lease + LEASE_GRACE then
    job.expires = kept_until(real, 0, retention, lease)
    set[#set + 1] = 'expires_at'
    set[#set + 1] = iso(job.expires * 1000)
    redis.call('PEXPIREAT', job_key(job.id), digits(job.expires))
  end
  redis.call('HSET', job_key(job.id), unpack(set))
  put(job)
end

-- Looks at every shelf that a job may be given back to.
local function expect_giving_back(queue)
  expect_shelves(queue, 'running', 'pending', 'delayed', 'failed', 'cancelled')
end

-- ms: a job that cannot be moved, because a key of its own is not ours, is tried again after this much, so that those that
-- can be moved come first.
local PASSED_OVER = 60000

-- Takes a leased job from its holder: cancelled if that was asked for, which counts no failure; after a failure failed, or
-- pending while it may be tried again. `what` is a table: failed; retention (ms); delay (µs; nil for the job's own after a
-- failure, else none); error_message (nil for none); change and unset as in `change`. Returns the time (µs).
local LONGEST_RETRY_DELAY = 3600
local function give_back(job, what)
  local failures = job.failures + (what.failed and not job.cancel and 1 or 0)
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

-- How a job changes: its record, its lease, its indexes and its event.

-- µs: newer progress within this time is stored without an event of its own.
local PROGRESS_EVENT_INTERVAL = 1000000

-- ms: a job whose retention is shorter than its lease is kept this much longer than the lease, for the worker and the
-- reaper.
local LEASE_GRACE = 60000

-- How many changes the history of a job keeps. An entry is µs since the creation, revision and a letter (the twin of
-- store/history.py); `-` in front stands for those that were dropped. Progress is not in the history.
local HISTORY_LENGTH = 100

local LETTERS = { pending = 'p', running = 'r', completed = 'c', failed = 'f', cancelled = 'x', cancel_requested = 'q' }

-- s
local MAX_RETRY_DELAY = 3600

-- Until when (ms) a job is kept that changes now and is due in `delay` (µs).
local function retention_deadline(delay, retention, lease)
  return math.max(math.floor((NOW + delay) / 1000) + retention, lease and lease + LEASE_GRACE or 0)
end

local function append_history(history, entry)
  if not history then return entry end
  if #history > 5 * HISTORY_LENGTH then -- an entry takes more than 5 bytes
    local _, length = history:gsub('%d+:', '')
    if length >= 2 * HISTORY_LENGTH then history = '- ' .. history:gsub('^%- ', ''):match('^%S+ (.*)$') end
  end
  return history .. ' ' .. entry
end

-- The fields that a change to `moved` sets, as a list, and those that it unsets.
local function collect_fields(job, moved, update)
  local held, status, given, unset, n = job.fields, moved.status, update.set, update.unset or {}, 8
  local set = { 'status', status, 'revision', moved.revision, 'updated_at', moved.updated_at, 'expires_at',
    moved.expires_at }
  for name, value in pairs(given) do
    set[n + 1], set[n + 2], n = name, value, n + 2
  end
  if update.change then
    set[n + 1], set[n + 2], n = '_change', update.change, n + 2
  end
  if moved.lease then
    set[n + 1], set[n + 2], n = 'lease_expires_at', moved.lease_expires_at, n + 2
  elseif job.has_lease then
    unset[#unset + 1] = 'lease_expires_at'
  end
  if FINAL[status] then
    set[n + 1], set[n + 2], n = 'finished_at', moved.updated_at, n + 2
    if not given.result and (held.result or not job.is_whole) then unset[#unset + 1] = 'result' end
    if not given.error_message and (held.error_message or not job.is_whole) then unset[#unset + 1] = 'error_message' end
  elseif status == 'pending' then
    unset[#unset + 1] = 'worker'
    unset[#unset + 1] = 'lease_seconds'
    if moved.available then
      set[n + 1], set[n + 2], n = 'available_at', format_time(moved.available), n + 2
    elseif held.available_at then
      unset[#unset + 1] = 'available_at'
    end
  elseif job.status == 'pending' then
    set[n + 1], set[n + 2], n = 'attempt', to_integer_string(number_in(job, 'attempt', 0) + 1), n + 2
    set[n + 1], set[n + 2], n = 'started_at', moved.updated_at, n + 2
  end
  if not update.is_progress then
    if held._progress_event then unset[#unset + 1] = '_progress_event' end
    local letter = LETTERS[given.cancel_requested_at and 'cancel_requested' or status]
    local entry = to_integer_string(moved.updated - job.created_micros) .. ':' .. moved.revision .. ':' .. letter
    set[n + 1], set[n + 2] = '_history', append_history(held._history, entry)
  elseif moved.has_event then
    set[n + 1], set[n + 2] = '_progress_event', to_integer_string(NOW)
  end
  return set, unset
end

-- Writes the fields and the time to live (ms), and keeps `job.fields` up to date where they are the whole record.
local function write_record(job, set, unset, expires)
  local name = job_key(job.id)
  redis.call('HSET', name, unpack(set))
  if #unset > 0 then redis.call('HDEL', name, unpack(unset)) end
  if expires then redis.call('PEXPIREAT', name, expires) end
  commit()
  if not job.is_whole then return end
  for i = 1, #set, 2 do job.fields[set[i]] = set[i + 1] end
  for _, field in ipairs(unset) do job.fields[field] = nil end
end

-- Changes a loaded job, when nothing refuses it any more. `update` is a table: status; retention (ms); set, a table of
-- fields; unset, a list of them; change, what the record keeps of the request (nil: what it has); delay (µs); lease (ms),
-- its end; is_progress, true if only progress is new.
local function change(job, update)
  local status, delay, lease, held = update.status, update.delay or 0, update.lease, job.fields
  local since_event = NOW - (tonumber(held._progress_event) or 0)
  local expires = retention_deadline(delay, update.retention, lease)
  local moved = { status = status, revision = to_integer_string(job.revision + 1), updated = NOW, updated_at = format_time(NOW),
    expires_at = format_time(expires * 1000), lease = lease, lease_expires_at = lease and format_time(lease * 1000),
    available = delay > 0 and NOW + delay or nil,
    has_event = not update.is_progress or since_event < 0 or since_event >= PROGRESS_EVENT_INTERVAL }
  -- Times of a record never go back; retention, delay, lease and the interval of events run from now all the same.
  if held.updated_at > moved.updated_at then
    moved.updated, moved.updated_at = parse_time(held.updated_at), held.updated_at
  end
  expires = to_integer_string(expires)
  local state = moved.available and 'delayed' or status
  local set, unset = collect_fields(job, moved, update)

  if state ~= job.state then add_score(key('by_created', job.queue, state), job.created, job.id) end
  add_score(key('by_expiry'), expires, expiry_member(job), held.expires_at)
  if moved.available then add_score(key('delays'), moved.available, delay_member(job)) end
  if lease then add_score(key('leases'), lease, job.id, held.lease_expires_at) end
  if moved.has_event then emit_change('changed', job, status, moved.revision) end

  write_record(job, set, unset, expires)

  if state ~= job.state then remove('ZREM', key('by_created', job.queue, job.state), job.id) end
  if job.state == 'delayed' then remove('ZREM', key('delays'), delay_member(job)) end
  if job.has_lease and not lease then remove('ZREM', key('leases'), job.id) end
end

-- Takes a leased job from its holder: cancelled if that was asked for, which counts no failure; after a failure failed, or
-- pending while attempts are left. `update` is a table: failed; retention (ms); delay (µs; nil for the job's own after a
-- failure, else none); error_message (nil for none); change and unset as in `change`. Returns the new status.
local function release_job(job, update)
  local is_cancelled = job.fields.cancel_requested_at ~= nil
  local failures = number_in(job, 'failures', 0) + (update.failed and not is_cancelled and 1 or 0)
  local status, delay = 'pending', update.delay
  if is_cancelled then
    status, delay = 'cancelled', 0
  elseif update.failed and failures >= number_in(job, 'max_attempts', 1) then
    status, delay = 'failed', 0
  elseif not delay then
    local seconds = update.failed and number_in(job, 'retry_delay_seconds', 0) * 2 ^ math.min(failures - 1, 12) or 0
    delay = math.min(seconds, MAX_RETRY_DELAY) * 1000000
  end
  change(job, { status = status, retention = update.retention, delay = delay, change = update.change,
    unset = update.unset, set = { failures = to_integer_string(failures), error_message = update.error_message } })
  return status
end

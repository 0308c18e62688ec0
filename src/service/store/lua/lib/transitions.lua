-- How a job changes: its record, its lease, its indexes and its event.

-- ms: a job whose retention is shorter than its lease, or ends before its deadline, is kept this much longer than these, for
-- the worker and the reaper.
local LEASE_GRACE = 60000

-- s
local MAX_RETRY_DELAY = 3600

-- s: those of `constraints.RETENTION_SECONDS`.
local MIN_RETENTION, MAX_RETENTION = 60, 31536000

-- Until when (ms) a job is kept that changes now and is due in `delay` (µs, whole milliseconds); `lease` and `deadline` are
-- the ends (ms) of its lease and its time-out, if there are any.
local function retention_deadline(delay, retention, lease, deadline)
  return math.max(NOW_MS + delay / 1000 + retention, (lease or 0) + LEASE_GRACE, (deadline or 0) + LEASE_GRACE)
end

-- How long (ms) a job is kept that ends with this status: as it says itself, or else its queue, or else the service
-- (`default`). Settings that no client can set say nothing: the end of a job must not fail for them.
local function retention_at_end(job, status, default)
  local seconds = job.fields.retention_seconds and number_in(job, 'retention_seconds')
  if not seconds then
    local settings = run_command('HGET', key('queues'), job.queue)
    if type(settings) ~= 'string' then return default end
    local _, _, completed, failed, cancelled = parse_settings(settings)
    seconds = tonumber(status == 'completed' and completed or status == 'failed' and failed or cancelled)
  end
  if not seconds or seconds < MIN_RETENTION or seconds > MAX_RETENTION then return default end
  return seconds * 1000
end

-- The history of a job with one more entry: µs since the creation, revision, a letter and, if it is known, the name of the
-- API key (the twin of store/history.py). It keeps a hundred; `-` in front stands for those that were dropped. Progress is
-- not in the history.
local function append_history(history, entry)
  if not history then return entry end
  local kept = 100
  if #history > 5 * kept then -- an entry takes more than 5 bytes
    local _, length = history:gsub('%d+:', '')
    if length >= 2 * kept then history = '- ' .. history:gsub('^%- ', ''):match('^%S+ (.*)$') end
  end
  return history .. ' ' .. entry
end

-- The errors of a job with one more (the twin of store/history.py): the last ten, each a line with a revision, the attempt
-- that has ended (0 for none) and the first kilobyte of the JSON text, in which a line break is only space.
local function append_error(errors, revision, attempt, text)
  local length = 1024
  if #text > length then
    while text:byte(length + 1) >= 128 and text:byte(length + 1) < 192 do length = length - 1 end -- no part of a character
  end
  local line = revision .. ':' .. attempt .. ':' .. text:sub(1, length):gsub('[\r\n]', ' ')
  if not errors then return line end
  local _, breaks = errors:gsub('\n', '')
  if breaks == 9 then errors = errors:match('\n(.*)') end
  return errors .. '\n' .. line
end

-- Changes a loaded job, when nothing refuses it any more. `update` is a table: status; retention (ms); set, a table of
-- fields; unset, a list of them; change, what the record keeps of the request (nil: what it has); delay (µs); lease (ms),
-- its end; deadline (ms), that of the next start (nil for none); is_progress, true if only progress is new; letter, that of
-- the history (nil: that of the status). Keeps `job.fields` up to date where they are the whole record.
local function change(job, update)
  local status, delay, lease, given, held = update.status, update.delay or 0, update.lease, update.set, job.fields
  -- The time-out that counts from now on, and when it is over (ms); a running job keeps its own.
  local timer, deadline = update.deadline and 'start', update.deadline
  if status == 'running' then
    if job.status == 'running' then
      timer, deadline = job.timer, deadline_of(job)
    elseif held.run_timeout_seconds then
      timer, deadline = 'run', math.ceil(NOW / 1000) + number_in(job, 'run_timeout_seconds') * 1000
    end
  end
  local retention = FINAL[status] and retention_at_end(job, status, update.retention) or update.retention
  local expires, revision = retention_deadline(delay, retention, lease, deadline), format('%d', job.revision + 1)
  local available = delay > 0 and NOW + delay or nil
  if given.priority then job.priority = tonumber(given.priority) end
  local state = status
  if status == 'pending' then
    state = available and 'delayed' or due_state(job)
  elseif status == 'running' and not lease then
    state = 'unleased'
  end
  local old_expires_at, old_lease_expires_at = held.expires_at, held.lease_expires_at
  -- Times of a record never go back; retention, delay, lease and the interval of events run from now all the same.
  local now, now_text = NOW, format_time(NOW)
  if held.updated_at > now_text then now, now_text = parse_time(held.updated_at), held.updated_at end
  local since_event = NOW - (tonumber(held._progress_event) or 0)
  -- Newer progress within a second is stored without an event of its own.
  local has_event = not update.is_progress or since_event < 0 or since_event >= 1000000

  -- The fields to set, as a list, and those to unset.
  local unset, n = update.unset or {}, 8
  local set = { 'status', status, 'revision', revision, 'updated_at', now_text, 'expires_at', format_time(expires * 1000) }
  for name, value in pairs(given) do
    set[n + 1], set[n + 2], n = name, value, n + 2
  end
  if update.change then
    set[n + 1], set[n + 2], n = '_change', update.change, n + 2
  end
  if lease then
    set[n + 1], set[n + 2], n = 'lease_expires_at', format_time(lease * 1000), n + 2
  elseif job.has_lease then
    unset[#unset + 1] = 'lease_expires_at'
  end
  for kind, name in pairs(DEADLINES) do
    if kind == timer and kind ~= job.timer then
      set[n + 1], set[n + 2], n = name, format_time(deadline * 1000), n + 2
    elseif kind ~= timer and held[name] then
      unset[#unset + 1] = name
    end
  end
  if status == 'running' then
    if job.status == 'pending' then
      set[n + 1], set[n + 2], n = 'attempt', format('%d', number_in(job, 'attempt', 0) + 1), n + 2
      set[n + 1], set[n + 2], n = 'started_at', now_text, n + 2
    end
  elseif status == 'pending' then
    unset[#unset + 1] = 'worker'
    unset[#unset + 1] = 'lease_seconds'
    if available then
      set[n + 1], set[n + 2], n = 'available_at', format_time(available), n + 2
    elseif held.available_at then
      unset[#unset + 1] = 'available_at'
    end
  else -- final
    set[n + 1], set[n + 2], n = 'finished_at', now_text, n + 2
    if not given.result and (held.result or not job.is_whole) then unset[#unset + 1] = 'result' end
    if not given.error_message and (held.error_message or not job.is_whole) then unset[#unset + 1] = 'error_message' end
  end
  if not update.is_progress then
    if held._progress_event then unset[#unset + 1] = '_progress_event' end
    local letter = update.letter or given.cancel_requested_at and 'q' or status == 'cancelled' and 'x' or status:sub(1, 1)
    local entry = format('%d', now - job.created_micros) .. ':' .. revision .. ':' .. letter
    if BY then entry = entry .. ':' .. BY end
    set[n + 1], set[n + 2], n = '_history', append_history(held._history, entry), n + 2
    if given.error_message then
      local errors = held._errors or not job.is_whole and call('HGET', job_key(job.id), '_errors') or nil
      local ended = job.status == 'running' and held.attempt or 0
      set[n + 1], set[n + 2] = '_errors', append_error(errors, revision, ended, given.error_message)
    end
  elseif has_event then
    set[n + 1], set[n + 2] = '_progress_event', format('%d', NOW)
  end

  -- Additions.
  expires = format('%d', expires)
  if state ~= job.state then add_to_lists(job, state) end
  add_score(key('by_expiry'), expires, expiry_member(job), old_expires_at)
  if available then add_score(key('delays'), available, delay_member(job)) end
  if timer and timer ~= job.timer then add_score(key('timers'), format('%d', deadline), timer_member(timer, job)) end
  if lease then add_score(key('leases'), format('%d', lease), job.id, old_lease_expires_at) end
  if has_event then emit_change('changed', job, status, revision) end

  -- The record.
  local record = job_key(job.id)
  redis.call('HSET', record, unpack(set))
  if unset[1] then redis.call('HDEL', record, unpack(unset)) end
  redis.call('PEXPIREAT', record, expires)
  undo_size = 0 -- from here on the change stands
  if job.is_whole then
    for i = 1, #set, 2 do held[set[i]] = set[i + 1] end
    for _, name in ipairs(unset) do held[name] = nil end
  end

  -- Removals.
  if state ~= job.state then remove_from_lists(job, job.state) end
  if job.timer and timer ~= job.timer then remove('ZREM', key('timers'), timer_member(job.timer, job)) end
  if job.has_lease and not lease then remove('ZREM', key('leases'), job.id) end
end

-- Takes a running job from its holder: cancelled if that was asked for, which counts no failure; after a failure failed, or
-- pending while attempts are left. `update` is a table: failed; retention (ms); delay (µs; nil for the job's own after a
-- failure, else none); error_messages, by the new status (nil for none); change and unset as in `change`. Returns the new
-- status.
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
    unset = update.unset,
    set = { failures = format('%d', failures), error_message = (update.error_messages or {})[status] } })
  return status
end

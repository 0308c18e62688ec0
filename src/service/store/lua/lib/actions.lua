-- What a client can do to one job, and a bulk action to many. Nothing but the status of the job refuses it here.

-- Cancels a job that has not ended; a leased one is only marked, and keeps its lease. `made` is what the record keeps of the
-- request. Returns `cancelled` or `cancel-requested`; nil if that stands already.
local function cancel_job(job, retention, made)
  if not job.has_lease then
    change(job, { status = 'cancelled', retention = retention, set = {}, change = made })
    return 'cancelled'
  elseif job.fields.cancel_requested_at then
    return nil
  end
  local at = format_time(NOW)
  if job.fields.updated_at > at then at = job.fields.updated_at end
  change(job, { status = job.status, retention = retention, set = { cancel_requested_at = at }, change = made,
    lease = floor(parse_time(job.fields.lease_expires_at) / 1000) })
  return 'cancel-requested'
end

local function can_retry(job)
  return job.status == 'failed' or job.status == 'cancelled'
end

-- Makes a job pending again, with all its attempts left, and due in `delay` (µs). `set` has the fields that it gets, `made`
-- is what the record keeps of the request; the last change before it is remembered for `remembered` (ms).
local function retry_job(job, retention, made, delay, set, remembered)
  if not job.is_whole then
    local held = call('HMGET', job_key(job.id), '_ended', 'start_timeout_seconds')
    job.fields._ended, job.fields.start_timeout_seconds = held[1] or nil, held[2] or nil
  end
  set.failures, set._retry, set._ended = '0', made, remember_last_change(job, remembered)
  local start_timeout = number_in(job, 'start_timeout_seconds', 0) * 1000
  change(job, { status = 'pending', retention = retention, delay = delay, set = set, change = made,
    deadline = start_timeout > 0 and math.ceil((NOW + delay) / 1000) + start_timeout or nil,
    letter = 't', unset = { 'error_message', 'progress', 'finished_at', 'cancel_requested_at', '_token' } })
end

-- Deletes a job that has ended. The deletion by `change_id`, and the changes that the job remembers, are remembered for
-- `remembered` (ms).
local function delete_job(job, change_id, remembered)
  local deletions, forget_at = key('deletions'), NOW_MS + remembered
  -- The ids of its last change, and of those that retries remember.
  local retry, ended = unpack(call('HMGET', job_key(job.id), '_retry', '_ended'))
  local changes = (job.fields._change or '') .. ' ' .. (retry or '') .. ' ' .. (ended or '')
  add_score(deletions, forget_at, deletion_member(job.id, change_id))
  for made in changes:gmatch('(%S+):%S+') do add_score(deletions, forget_at, deleted_change_member(job.id, made)) end
  emit_change('deleted', job, job.status, format('%d', job.revision + 1))

  redis.call('UNLINK', job_key(job.id))
  commit()

  remove('ZREM', key('by_created', job.queue, job.state), job.id)
  remove('ZREM', key('by_expiry'), expiry_member(job))
  local tag_entries = tag_members(job)
  if #tag_entries > 0 then remove('ZREM', key('tags'), unpack(tag_entries)) end
  if not has_jobs(job.queue) then remove('SREM', key('queue_names'), job.queue) end
  remove('ZREMRANGEBYSCORE', deletions, '-inf', '(' .. NOW_MS)
  redis.call('PEXPIREAT', deletions, format('%d', forget_at))
end

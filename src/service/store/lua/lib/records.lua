-- Records of jobs, and what they say.

local FINAL = { completed = true, failed = true, cancelled = true }

-- The field with the end of a time-out, by its kind.
local DEADLINES = { run = 'run_deadline_at', start = 'start_deadline_at' }

-- The kind of the time-out that counts in a status.
local TIMERS = { running = 'run', pending = 'start' }

local function reject_record(id)
  error({ err = 'CORRUPT ' .. job_key(id) .. ' is not a record of ours' })
end

-- Returns the job with these fields, without a state if it has none; nil without a status. Raises for a record that is not
-- ours.
local function parse_job(id, fields)
  if not fields.status then return nil end
  local timer = TIMERS[fields.status]
  local job = { id = id, fields = fields, status = fields.status, state = fields.status, queue = fields.queue,
    slate_id = fields.slate_id, created_micros = parse_time(fields.created_at), revision = tonumber(fields.revision),
    tags = fields._tags or '', token = fields._token, has_lease = fields.lease_expires_at ~= nil,
    priority = tonumber(fields.priority or 0), timer = timer and fields[DEADLINES[timer]] and timer }
  -- Of the other times only the length is checked, which costs least.
  if not (job.queue and job.created_micros and job.revision and job.priority and #(fields.updated_at or '') == 27
    and #(fields.expires_at or '') == 27 and (not job.has_lease or #fields.lease_expires_at == 27)) then
    reject_record(id)
  end
  job.created = format('%d', job.created_micros)
  if job.status == 'pending' then
    local available = parse_time(fields.available_at)
    -- A delay that is over was perhaps not ended yet; the record does not tell.
    if available and (available > NOW or call('ZSCORE', key('delays'), delay_member(job))) then
      job.state, job.available = 'delayed', available
    else
      job.state = due_state(job)
    end
  elseif job.status == 'running' and not job.has_lease then
    job.state = 'unleased'
  end
  return job
end

-- The fields that the indexes and the rules of a change need.
local function load_job(id)
  local values = call('HMGET', job_key(id), 'status', 'queue', 'created_at', 'updated_at', 'revision',
    'expires_at', 'slate_id', 'available_at', 'lease_expires_at', 'lease_seconds', 'cancel_requested_at', 'attempt',
    'failures', 'max_attempts', 'retry_delay_seconds', 'progress', '_tags', '_change', '_token', '_progress_event',
    '_history', 'run_deadline_at', 'start_deadline_at', 'retention_seconds', 'priority')
  return parse_job(id, { status = values[1] or nil, queue = values[2] or nil, created_at = values[3] or nil,
    updated_at = values[4] or nil, revision = values[5] or nil, expires_at = values[6] or nil,
    slate_id = values[7] or nil, available_at = values[8] or nil, lease_expires_at = values[9] or nil,
    lease_seconds = values[10] or nil, cancel_requested_at = values[11] or nil, attempt = values[12] or nil,
    failures = values[13] or nil, max_attempts = values[14] or nil, retry_delay_seconds = values[15] or nil,
    progress = values[16] or nil, _tags = values[17] or nil, _change = values[18] or nil, _token = values[19] or nil,
    _progress_event = values[20] or nil, _history = values[21] or nil, run_deadline_at = values[22] or nil,
    start_deadline_at = values[23] or nil, retention_seconds = values[24] or nil,
    priority = values[25] or nil })
end

-- All fields of a record; none if there is none.
local function read_record(id)
  redis.setresp(3) -- a map instead of a list
  local record = redis.pcall('HGETALL', job_key(id))
  redis.setresp(2) -- also after an error, because a script may go on with other jobs
  if record.err then error(with_key(record, job_key(id))) end
  return record.map
end

-- For scripts that reply with the record: `job.fields` has every field, and a change keeps it up to date. Not for others,
-- because some fields are as large as a request body.
local function load_job_with_record(id)
  local job = parse_job(id, read_record(id))
  if job then job.is_whole = true end
  return job
end

-- The record of a job as a reply, without most of the fields that only the store reads: as one text in MessagePack, because
-- Redis takes longer for a reply of many texts.
local function public(job)
  local fields = job.fields
  fields._creation, fields._change, fields._history, fields._progress_event, fields._tags = nil, nil, nil, nil, nil
  fields._retry, fields._ended, fields._errors, fields._by = nil, nil, nil, nil
  return cmsgpack.pack(fields)
end

-- A number of a record, or `default` where the field is absent. Raises for a record that is not ours.
local function number_in(job, name, default)
  local number = tonumber(job.fields[name] or default)
  if not number then reject_record(job.id) end
  return number
end

-- The time (ms) at which the timer of a job ends; nil without one. Raises for a record that is not ours.
local function deadline_of(job)
  if not job.timer then return nil end
  return floor((parse_time(job.fields[DEADLINES[job.timer]]) or reject_record(job.id)) / 1000)
end

-- Whether a job has one of these versions, separated by spaces (empty: any).
local function has_version(job, versions)
  return versions == '' or contains(versions, job.created .. '-' .. job.fields.revision)
end

-- Fields with times from which index entries are made.
local INDEXED_TIMES = { 'created_at', 'expires_at', 'available_at', 'lease_expires_at', 'run_deadline_at',
  'start_deadline_at' }

-- Whether a record can be read, and its job (nil if there is none). For the doctor, which changes nothing of other jobs.
local function load_readable_job(id)
  local loaded, job = pcall(load_job, id)
  if not loaded then return false end
  if not job then return redis.call('EXISTS', job_key(id)) == 0 end
  for _, name in ipairs(INDEXED_TIMES) do
    local text = job.fields[name]
    local micros = parse_time(text)
    if text and not (micros and format_time(micros) == text) then return false end
  end
  if not contains('pending running completed failed cancelled', job.status) then return false end
  return true, job
end

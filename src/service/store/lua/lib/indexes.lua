-- The entries of the indexes. A job in them is a table: id, status, queue, state (its status, or `delayed` while it is
-- pending and in `delays`), created (µs, as text), tags (text, comma-separated), available (µs, of a delayed one).

-- The states of a queue's lists. Most jobs expire after their end, so the final ones come first.
local STATES = { 'completed', 'failed', 'cancelled', 'pending', 'running', 'delayed' }

-- The members of `tags` of a job: fixed width before the id, so that the newest job of a tag is the last in the order of
-- bytes.
local function tag_members(job)
  local members, rest = {}, format(':%016d:', job.created) .. job.id
  for name in job.tags:gmatch('[^,]+') do members[#members + 1] = name .. rest end
  return members
end

-- A member of `by_expiry`: what the sweep needs to know of a job whose record is gone. It never changes.
local function expiry_member(job)
  return job.id .. '|' .. job.created .. '|' .. job.queue .. '|' .. job.tags
end

-- Nil for a member of another form.
local function parse_expiry_member(member)
  local id, created, queue, tags = member:match('^([^|]+)|(%d+)|([^|]+)|([^|]*)$')
  return id and { id = id, created = created, queue = queue, tags = tags }
end

-- A member of `delays`.
local function delay_member(job)
  return job.queue .. ':' .. job.id
end

-- A member of `timers`: the end of an attempt (`run`), or of the time until the first start (`start`).
local function timer_member(kind, job)
  return kind .. ':' .. job.queue .. ':' .. job.id
end

-- The state whose list has this job under its creation; nil if none has.
local function listed_state(job)
  local created = tonumber(job.created)
  for _, state in ipairs(STATES) do
    local score = call('ZSCORE', key('by_created', job.queue, state), job.id)
    if score and tonumber(score) == created then return state end
  end
end

-- Whether a queue has any job.
local function has_jobs(queue)
  local lists = {}
  for i, state in ipairs(STATES) do lists[i] = key('by_created', queue, state) end
  return redis.call('EXISTS', unpack(lists)) > 0
end

-- Fields of the job behind an index entry, the first of them its status; nil if it is gone, was created again since, or is
-- not ours: one key of another program must not hide all other jobs.
local function read_if_current(id, created, ...)
  local fields = redis.pcall('HMGET', job_key(id), 'created_at', 'status', ...)
  if fields[1] ~= format_time(created) then return nil end
  table.remove(fields, 1)
  return fields
end

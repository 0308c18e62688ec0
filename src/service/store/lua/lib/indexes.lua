-- The entries of the indexes. A job in them is a table: id, status, queue, state (the list that has it), created (µs, as
-- text), tags (text, comma-separated), available (µs, of a delayed one).

-- The states of a queue's lists. Most jobs expire after their end, so the final ones come first. The twin of
-- `STATUS_OF_STATE` in store/partition.py.
local STATES = { 'completed', 'failed', 'cancelled', 'pending', 'running', 'delayed', 'prioritized', 'unleased' }

-- The status of jobs in a state: a pending job is delayed while it is in `delays`, then prioritized if it has a priority; a
-- running one is unleased without a lease. All others are in the state of their status.
local function status_of(state)
  if state == 'delayed' or state == 'prioritized' then return 'pending' end
  return state == 'unleased' and 'running' or state
end

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

-- The score in `by_priority`: claims give the job with the smallest one first. A job without a priority has its creation
-- time (µs).
local function claim_order(job)
  return job.created_micros - job.priority * 1000000
end

-- Adds a job to the lists of a state.
local function add_to_lists(job, state)
  add_score(key('by_created', job.queue, state), job.created, job.id)
  if state == 'prioritized' then
    add_score(key('by_priority', job.queue), format('%d', claim_order(job)), job.id)
  end
end

-- Removes a job from the lists of a state, and a delayed one from `delays`.
local function remove_from_lists(job, state)
  remove('ZREM', key('by_created', job.queue, state), job.id)
  if state == 'prioritized' then remove('ZREM', key('by_priority', job.queue), job.id) end
  if state == 'delayed' then remove('ZREM', key('delays'), delay_member(job)) end
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

-- Calls `visit` with member and score of the entries of a list, first ones first, until it returns true; at most of the first
-- `max_scan`.
local function walk(list, max_scan, visit)
  local from, count = 0, 1 -- the first is nearly always what is looked for
  while from < max_scan do
    local entries = call('ZRANGE', list, from, from + count - 1, 'WITHSCORES')
    for i = 1, #entries, 2 do
      if visit(entries[i], tonumber(entries[i + 1])) then return end
    end
    if #entries < 2 * count then return end
    from, count = from + count, count * 4
  end
end

-- Fields of the job behind an index entry, the first of them its status; nil if it is gone, was created again since, or is
-- not ours: one key of another program must not hide all other jobs.
local function read_if_current(id, created, ...)
  local fields = redis.pcall('HMGET', job_key(id), 'created_at', 'status', ...)
  if fields[1] ~= format_time(created) then return nil end
  table.remove(fields, 1)
  return fields
end

-- Finds entries of an index that do not belong there.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 `check`, or `repair` by removing what is found, 2 the index (by_created, by_priority, by_expiry, tags, delays,
--       leases, timers, queue_names), 3 queue (empty but for the first two), 4 state (empty but for by_created), 5 … members
-- Returns: CHECKED, then for each entry that does not belong there the member, its score, the id of the job behind it and the
--          job's status (each empty for none)
-- It leaves alone entries of jobs that cannot be read, and those that the next sweep removes.
local repairs, index, queue, state = ARGV[1] == 'repair', ARGV[2], ARGV[3], ARGV[4]
local name = key(index, queue ~= '' and queue or nil, state ~= '' and state or nil)
local result = { 'CHECKED' }

local ID_PATTERNS = { by_expiry = '^([^|]+)|%d+|[^|]+|[^|]*$', tags = '^[^:]*:%d+:(.*)$', delays = '^[^:]*:(.*)$',
  timers = '^[^:]*:[^:]*:(.*)$' }

local function belongs(job, member)
  if index == 'by_created' then return job.queue == queue and job.state == state end
  if index == 'by_priority' then return job.queue == queue and job.state == 'prioritized' end
  if index == 'by_expiry' then return expiry_member(job) == member end
  if index == 'leases' then return job.has_lease end
  if index == 'delays' then return job.state == 'delayed' and delay_member(job) == member end
  if index == 'timers' then return job.timer and timer_member(job.timer, job) == member end
  return contains(table.concat(tag_members(job), ' '), member)
end

-- The id and the status of the job behind an entry that does not belong there; nil for one that does.
local function orphan(member, score)
  if index == 'queue_names' then return not has_jobs(member) and '' or nil, '' end
  if index == 'by_expiry' and tonumber(score) < NOW_MS then return nil end
  local id = member:match(ID_PATTERNS[index] or '^.*$')
  if not id then return '', '' end
  local readable, job = load_readable_job(id)
  if not readable or (job and belongs(job, member)) then return nil end
  return id, job and job.status or ''
end

-- Nil if the entry is gone.
local function score_of(member)
  if index == 'queue_names' then return redis.call('SISMEMBER', name, member) == 1 and '' or nil end
  return redis.call('ZSCORE', name, member) or nil
end

local function remove_entry(member)
  if index == 'queue_names' then return redis.call('SREM', name, member) end
  redis.call('ZREM', name, member)
end

for i = 5, #ARGV do
  local member = ARGV[i]
  local score = score_of(member)
  local id, status
  if score then id, status = orphan(member, score) end
  if id then
    if repairs then remove_entry(member) end
    for _, value in ipairs({ member, score, id, status }) do result[#result + 1] = value end
  end
end
return result

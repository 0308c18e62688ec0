-- Looks whether the jobs behind entries of an index belong there.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 `look`, or `repair` what is found, 2 the index (list, exp, shelves, tags, due, leases), 3 queue, 4 shelf (each
--       empty but for list and exp), 5 … members
-- Returns: EXAMINED with the time (µs), then of every entry that does not belong there the member, its score, the id of the
--          job behind it and its status (each empty for nothing), and 1 if the entry was taken out (else 0)
-- An entry whose job cannot be read is left alone, and so is what the next sweep takes out by itself.
local repairs, index, queue, shelf = ARGV[1] == 'repair', ARGV[2], ARGV[3], ARGV[4]
local name, at = queue == '' and key(index) or key(index, queue, shelf), now() / 1000
local found = { 'EXAMINED', digits(now()) }
expect('zset', name)

local PATTERNS = { exp = '^([^|]+)|%d+|%d+|[^|]*$', tags = '^[^:]*:%d+:(.*)$', due = '^[^:]*:(.*)$' }

local function belongs(job, member)
  if index == 'leases' then return job.lease ~= nil end
  if index == 'due' then return job.shelf == 'delayed' and due_member(job) == member end
  if index == 'tags' then
    for _, tag_name in ipairs(job.tags) do
      if tagged(tag_name, job.created, job.id) == member then return true end
    end
    return false
  end
  return job.queue == queue and job.shelf == shelf and (index == 'list' or epitaph(job) == member)
end

-- The id and the status of the job behind an entry that does not belong there; nil for one that does.
local function stray(member, score)
  if (index == 'exp' or index == 'shelves') and score < at then return nil end
  if index == 'shelves' then
    local of_queue, on_shelf = shelf_of(member)
    if of_queue and redis.call('EXISTS', key('exp', of_queue, on_shelf)) == 1 then return nil end
    return '', ''
  end
  local id = member:match(PATTERNS[index] or '^.*$')
  if not id then return '', '' end
  local ours, job = pcall(load, id)
  if not ours then return nil end
  if not job then
    if redis.call('EXISTS', job_key(id)) == 1 then return nil end
    return id, ''
  end
  delay_on(job)
  if belongs(job, member) or not is_shelved(job) then return nil end
  return id, job.status
end

local function take_out(member)
  redis.call('ZREM', name, member)
  if index == 'exp' and redis.call('EXISTS', name) == 0 and pcall(expect, 'zset', key('shelves')) then
    redis.call('ZREM', key('shelves'), queue .. ':' .. shelf)
  end
end

for i = 5, #ARGV do
  local member = ARGV[i]
  local score = redis.call('ZSCORE', name, member)
  local id, status
  if score then id, status = stray(member, tonumber(score)) end
  if id then
    if repairs then take_out(member) end
    for _, value in ipairs({ member, score, id, status, repairs and 1 or 0 }) do found[#found + 1] = value end
  end
end
return found

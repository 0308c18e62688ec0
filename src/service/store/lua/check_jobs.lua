-- Looks whether jobs are in every index that their records put them into, and whether all lives as long as it should.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 `look`, or `repair` what is found, 2 … job ids
-- Returns: EXAMINED with the time (µs), then of everything found what it is (missing, score, stray, lifetime, record,
--          clock), the key, the member (empty for the key itself), what is there, what belongs there (each empty for
--          nothing), and 1 if it was repaired (else 0)
-- A key of another type is left alone, and so is a record that cannot be read: whoever walks the names tells of them.
local repairs, at = ARGV[1] == 'repair', now() / 1000
local found = { 'EXAMINED', digits(now()) }
-- Until when (ms) an index is kept whose own time to live cannot be trusted: longer than any job and its grace.
local LONG = math.floor(at) + 2 * SWEEP_GRACE

local function note(what, name, member, there, belongs, repaired)
  for _, value in ipairs({ what, name, member, there, belongs, repaired and 1 or 0 }) do found[#found + 1] = value end
end

local sound = {}
local function is_sound(kind, name)
  if sound[name] == nil then sound[name] = (pcall(expect, kind, name)) end
  return sound[name]
end

-- Looks at one entry, whose index must live until `ends` (ms). Returns whether the entry was as it should be.
local function place(name, member, score, ends, may_be_less)
  if not is_sound('zset', name) then return true end
  local held, lives = redis.call('ZSCORE', name, member) or '', redis.call('PEXPIRETIME', name)
  local there = tonumber(held)
  local is_right = there == score or (may_be_less and there ~= nil and there < score)
  if not is_right then
    if repairs then redis.call('ZADD', name, digits(score), member) end
    note(there and 'score' or 'missing', name, member, held, digits(score), repairs)
  end
  if lives < ends then
    if repairs then keep(name, LONG) end
    if lives ~= -2 then note('lifetime', name, '', lives < 0 and '' or digits(lives), digits(ends), repairs) end
  end
  return is_right
end

-- Takes a job off the lists of the shelves that it is not on: from one of them it could be given out once more.
local function unlist(job)
  for _, shelf in ipairs({ 'pending', 'delayed', 'running', 'completed', 'failed', 'cancelled' }) do
    local list = key('list', job.queue, shelf)
    if shelf ~= job.shelf and is_sound('zset', list) and redis.call('ZREM', list, job.id) == 1 then
      note('stray', list, job.id, job.status, '', true)
    end
  end
end

local function examine_places(job)
  local list, exp = key('list', job.queue, job.shelf), key('exp', job.queue, job.shelf)
  local is_listed = place(list, job.id, job.created, job.expires)
  if repairs and not is_listed then unlist(job) end
  place(exp, epitaph(job), job.expires, job.expires + SWEEP_GRACE)
  place(key('shelves'), job.queue .. ':' .. job.shelf, job.expires, job.expires + SWEEP_GRACE, true)
  if job.shelf == 'delayed' then place(key('due'), due_member(job), job.available, job.expires) end
  if job.lease then place(key('leases'), job.id, job.lease, job.expires) end
  for _, name in ipairs(job.tags) do place(key('tags'), tagged(name, job.created, job.id), 0, job.expires) end
end

local newest = 0
local function examine(id)
  local name = job_key(id)
  local ours, job = pcall(load, id)
  if not ours then return end
  if not job then
    if redis.call('EXISTS', name) == 1 then note('record', name, '', 'no status', '', false) end
    return
  end
  if redis.call('HSTRLEN', name, 'input_params') == 0 then note('record', name, '', 'no input_params', '', false) end
  local lives = redis.call('PEXPIRETIME', name)
  if lives ~= job.expires then
    if repairs then redis.call('PEXPIREAT', name, digits(job.expires)) end
    note('lifetime', name, '', lives < 0 and '' or digits(lives), digits(job.expires), repairs)
  end
  if job.expires < at or not is_shelved(job) then return end
  delay_on(job)
  newest = math.max(newest, job.created)
  examine_places(job)
end

for i = 2, #ARGV do
  if is_sound('hash', job_key(ARGV[i])) then examine(ARGV[i]) end
end

local clock = key('clock')
if is_sound('string', clock) then
  local held = redis.call('GET', clock) or ''
  if (tonumber(held) or 0) < newest then
    if repairs then redis.call('SET', clock, digits(newest)) end
    note('clock', clock, '', held, digits(newest), repairs)
  end
end
return found

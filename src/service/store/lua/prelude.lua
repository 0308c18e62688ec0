-- What every script shares: names, times, indexes, events. Put in front of it when it is loaded.
-- The last of KEYS is always the partition's root.
-- Before the ARGV of a script's header comes one more, taken off here: the moment (µs) after which it must not run, because
-- its sender has given it up by then and has perhaps sent it again. It then answers LATE with the time.
local root = KEYS[#KEYS]
local not_after = tonumber(table.remove(ARGV, 1))
-- About as many events as this are kept, whole nodes of the stream at a time.
local EVENTS_KEPT = 100000

-- Key names: the twin of store/keys.py.
local function key(kind, queue, shelf)
  if shelf then return root .. kind .. ':' .. queue .. ':' .. shelf end
  return queue and root .. kind .. ':' .. queue or root .. kind
end

local function job_key(id)
  return (root == 'jobs:' and '' or root) .. 'job:' .. id
end

-- Times: microseconds since 1970 in numbers, ISO 8601 in records (days from civil and back, after Howard Hinnant).
-- One moment for the whole script: each call of Redis costs more than what it does.
local began = redis.call('TIME')
local NOW = began[1] * 1000000 + began[2]
local function now()
  return NOW
end

local function iso(micros)
  local floor = math.floor
  local seconds = floor(micros / 1000000)
  local days, rest = floor(seconds / 86400) + 719468, seconds % 86400
  local era = floor(days / 146097)
  local of_era = days - era * 146097
  local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local shifted = floor((5 * of_year + 2) / 153)
  local day, month = of_year - floor((153 * shifted + 2) / 5) + 1, shifted < 10 and shifted + 3 or shifted - 9
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year + era * 400 + (month <= 2 and 1 or 0), month, day,
    floor(rest / 3600), floor(rest / 60) % 60, rest % 60, micros % 1000000)
end

local function micros(text)
  local floor = math.floor
  local year, month, day, hour, minute, second, fraction =
    (text or ''):match('^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)%.(%d+)Z$')
  if not year then return nil end
  month, day = tonumber(month), tonumber(day)
  year = tonumber(year) - (month <= 2 and 1 or 0)
  local era = floor(year / 400)
  local of_era = year - era * 400
  local of_year = floor((153 * (month > 2 and month - 3 or month + 9) + 2) / 5) + day - 1
  local days = era * 146097 + of_era * 365 + floor(of_era / 4) - floor(of_era / 100) + of_year - 719468
  return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000000 + fraction
end

-- A number as text without an exponent.
local function digits(number)
  return string.format('%.0f', number)
end

if now() > not_after then return { 'LATE', digits(now()) } end

-- Raises before the first write when a key that will be written holds another type.
local function expect(kind, ...)
  for _, name in ipairs({ ... }) do
    local found = redis.call('TYPE', name).ok
    if found ~= kind and found ~= 'none' then
      error({ err = 'WRONGTYPE ' .. name .. ' holds a ' .. found .. ' where a ' .. kind .. ' belongs' })
    end
  end
end

-- Lets a key live at least until `at` (ms), and says whether it would not have. Indexes go by themselves with their latest
-- entry, even with no replica alive; those that the sweep reads (`exp`, `shelves`) outlive every index that it cleans by this much, the longest retention
-- and the longest delay together, so that a replica that comes back late still finds what to clean.
local SWEEP_GRACE = 730 * 86400000
-- ms: so much longer than asked for an index is kept, so that not every change has to write its time to live.
local SLACK = 3600000
local function keep(name, at)
  local is_short = redis.call('PEXPIRETIME', name) < at
  if is_short then redis.call('PEXPIREAT', name, digits(at + SLACK)) end
  return is_short
end

local function contains(words, word)
  return (' ' .. words .. ' '):find(' ' .. word .. ' ', 1, true) ~= nil
end

-- Turns name, value, name, value … from position `first` on into a table.
local function pairs_from(list, first)
  local fields = {}
  for i = first, #list, 2 do fields[list[i]] = list[i + 1] end
  return fields
end

-- A job in the indexes is a table: id, status, queue, shelf, created (µs), revision, expires (ms), available (µs, of a
-- delayed one), lease (ms, its end, of a leased one), tags. Its shelf is its status, or `delayed` while it is pending and
-- not due.

-- What slate and correlation are found by: a letter and 48 bits of a hash; the record settles collisions.
local function tag(kind, value)
  return kind .. redis.sha1hex(value):sub(1, 12)
end

local function tags(slate_id, correlation_id)
  local list = {}
  if slate_id then list[#list + 1] = tag('s', slate_id) end
  if correlation_id then list[#list + 1] = tag('c', correlation_id) end
  return list
end

-- A member of `tags`: fixed width before the id, so that the newest of a tag is the last in the order of bytes.
local function tagged(name, created, id)
  return name .. ':' .. string.format('%016.0f', created) .. ':' .. id
end

-- A member of `exp`: what the sweep needs to know of a job whose hash is gone.
local function epitaph(job)
  return table.concat({ job.id, digits(job.created), digits(job.revision), table.concat(job.tags, ',') }, '|')
end

local function due_member(job)
  return job.queue .. ':' .. job.id
end

-- Looks at every index of these shelves of a queue.
local function expect_shelves(queue, ...)
  for _, shelf in ipairs({ ... }) do
    expect('zset', key('list', queue, shelf), key('exp', queue, shelf))
  end
end

-- Looks at every index that the jobs of all queues share.
local function expect_shared()
  expect('zset', key('shelves'), key('tags'), key('due'), key('leases'))
  expect('stream', key('events'))
end

-- Looks at every index that a job is written to which moves from one of these shelves to another, and at no other: each look
-- is a call of Redis.
local function expect_indexes(job, ...)
  local sorted = { key('shelves') }
  if #job.tags > 0 then sorted[2] = key('tags') end
  for _, shelf in ipairs({ ... }) do
    sorted[#sorted + 1] = key('list', job.queue, shelf)
    sorted[#sorted + 1] = key('exp', job.queue, shelf)
    if shelf == 'delayed' then sorted[#sorted + 1] = key('due') end
    if shelf == 'running' then sorted[#sorted + 1] = key('leases') end
  end
  expect('zset', unpack(sorted))
  expect('stream', key('events'))
end

local function put(job)
  local list, exp = key('list', job.queue, job.shelf), key('exp', job.queue, job.shelf)
  redis.call('ZADD', list, digits(job.created), job.id)
  redis.call('ZADD', exp, digits(job.expires), epitaph(job))
  redis.call('ZADD', key('shelves'), 'LT', digits(job.expires), job.queue .. ':' .. job.shelf)
  keep(list, job.expires)
  -- `shelves` has an entry for each `exp`, and is kept at least as long as each of them is.
  if keep(exp, job.expires + SWEEP_GRACE) then keep(key('shelves'), job.expires + SWEEP_GRACE + SLACK) end
  if job.shelf == 'delayed' then
    redis.call('ZADD', key('due'), digits(job.available), due_member(job))
    keep(key('due'), job.expires)
  end
  if job.lease then
    redis.call('ZADD', key('leases'), digits(job.lease), job.id)
    keep(key('leases'), job.expires)
  end
  if #job.tags > 0 then keep(key('tags'), job.expires) end
end

-- What a new job is found by; `put` keeps it as long as the job.
local function label(job)
  for _, name in ipairs(job.tags) do
    redis.call('ZADD', key('tags'), 0, tagged(name, job.created, job.id))
  end
end

-- Off its shelf; the tags stay, for a job that only moves.
local function take(job)
  local exp = key('exp', job.queue, job.shelf)
  redis.call('ZREM', key('list', job.queue, job.shelf), job.id)
  redis.call('ZREM', exp, epitaph(job))
  if redis.call('EXISTS', exp) == 0 then redis.call('ZREM', key('shelves'), job.queue .. ':' .. job.shelf) end
  if job.shelf == 'delayed' then redis.call('ZREM', key('due'), due_member(job)) end
  if job.shelf == 'running' then redis.call('ZREM', key('leases'), job.id) end
end

local function untag(job)
  for _, name in ipairs(job.tags) do
    redis.call('ZREM', key('tags'), tagged(name, job.created, job.id))
  end
end

local function emit(event, job)
  local entry = { 'event', event, 'job_id', job.id, 'status', job.status, 'revision', digits(job.revision),
    'queue', job.queue, 'created', digits(job.created) }
  if job.slate_id then
    entry[#entry + 1] = 'slate_id'
    entry[#entry + 1] = job.slate_id
  elseif event == 'expired' then -- the slate went with the hash: its tag tells whoever knows the slate
    entry[#entry + 1] = 'tags'
    entry[#entry + 1] = table.concat(job.tags, ',')
  end
  redis.call('XADD', key('events'), 'MAXLEN', '~', EVENTS_KEPT, '*', unpack(entry))
end

-- Tells those who wait of something that is no change of a job.
local function tell(event, queue)
  redis.call('XADD', key('events'), 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', event, 'queue', queue)
end

-- Fields of the job behind an index entry, the first of them its status; nil if it has gone or was created again since.
local function current(id, created, ...)
  local held = redis.call('HMGET', job_key(id), 'created_at', 'status', ...)
  if held[1] ~= iso(created) then return nil end
  table.remove(held, 1)
  return held
end

-- The queue and the shelf behind a member of `shelves`.
local function shelf_of(member)
  return member:match('^(.*):(.*)$')
end

-- The first job of a list, by creation, that is still there, in the status of its shelf: id and created (µs); nil if the
-- first `most` entries have none, or none that was created before `before`.
local function first_alive(list, most, before, status)
  local from, count = 0, 1 -- the first is nearly always alive
  while from < most do
    local heads = redis.call('ZRANGE', list, from, from + count - 1, 'WITHSCORES')
    for i = 1, #heads, 2 do
      local id, created = heads[i], tonumber(heads[i + 1])
      if before and created >= before then return nil end
      local held = current(id, created)
      if held and held[1] == status then return id, created end
    end
    if #heads < 2 * count then return nil end
    from, count = from + count, count * 4
  end
end

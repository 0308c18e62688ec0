-- Takes the jobs whose retention is over out of every index, at most a batch of them. Their hashes are gone already:
-- Redis expired them by itself.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many jobs, and how many shelves, to look at
-- Returns: SWEPT with the number of jobs, 1 if there may be more (else 0), and the shelves that were passed over because
--          a key of theirs is not ours
local at = math.floor(now() / 1000)
local over = '(' .. digits(at)
local batch, swept, passed_over = tonumber(ARGV[1]), 0, {}
expect_shared()

local function sweep(queue, shelf, entry)
  redis.call('ZREM', key('exp', queue, shelf), entry)
  swept = swept + 1
  local id, created, revision, names = entry:match('^([^|]+)|(%d+)|(%d+)|([^|]*)$')
  if not id then return end -- not written by us
  local job = { id = id, status = shelf == 'delayed' and 'pending' or shelf, shelf = shelf, queue = queue,
    created = tonumber(created), revision = tonumber(revision), tags = {} }
  for name in names:gmatch('[^,]+') do job.tags[#job.tags + 1] = name end
  -- The same id may have been created again since: then the list has the newer moment, and is left alone.
  local listed = redis.call('ZSCORE', key('list', queue, shelf), id)
  if not listed or tonumber(listed) == job.created then take(job) end
  untag(job)
  job.revision = job.revision + 1
  emit('expired', job)
end

local members = redis.call('ZRANGE', key('shelves'), '-inf', over, 'BYSCORE', 'LIMIT', 0, batch)
for _, member in ipairs(members) do
  local queue, shelf = shelf_of(member)
  if not pcall(expect, 'zset', key('exp', queue, shelf), key('list', queue, shelf)) then
    passed_over[#passed_over + 1] = member
  elseif swept < batch then
    local exp = key('exp', queue, shelf)
    for _, entry in ipairs(redis.call('ZRANGE', exp, '-inf', over, 'BYSCORE', 'LIMIT', 0, batch - swept)) do
      sweep(queue, shelf, entry)
    end
    local earliest = redis.call('ZRANGE', exp, 0, 0, 'WITHSCORES')[2]
    if earliest then
      redis.call('ZADD', key('shelves'), earliest, member)
    else
      redis.call('ZREM', key('shelves'), member)
    end
  end
end
local more = swept >= batch or #members - #passed_over >= batch
return { 'SWEPT', swept, more and 1 or 0, passed_over }

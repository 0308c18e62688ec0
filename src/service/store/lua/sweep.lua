-- Takes the jobs whose retention is over out of every index, at most a batch of them. Their hashes are gone already:
-- Redis expired them by itself.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many jobs to look at
-- Returns: SWEPT with the number of jobs; it is the batch when there may be more
local at = math.floor(now() / 1000)
local over = '(' .. digits(at)
local batch, swept = tonumber(ARGV[1]), 0
expect('zset', key('shelves'), key('tags'), key('due'))
expect('stream', key('events'))

local function sweep(queue, shelf, entry)
  local id, created, revision, names = entry:match('^(.-)|(.-)|(.-)|(.*)$')
  local job = { id = id, status = shelf == 'delayed' and 'pending' or shelf, shelf = shelf, queue = queue,
    created = tonumber(created), revision = tonumber(revision), tags = {} }
  for name in names:gmatch('[^,]+') do job.tags[#job.tags + 1] = name end
  redis.call('ZREM', key('exp', queue, shelf), entry)
  -- The same id may have been created again since: then the list has the newer moment, and is left alone.
  local listed = redis.call('ZSCORE', key('list', queue, shelf), id)
  if not listed or tonumber(listed) == job.created then take(job) end
  untag(job)
  job.revision = job.revision + 1
  emit('expired', job)
end

for _, member in ipairs(redis.call('ZRANGE', key('shelves'), '-inf', over, 'BYSCORE', 'LIMIT', 0, batch)) do
  local queue, shelf = shelf_of(member)
  local exp = key('exp', queue, shelf)
  expect('zset', exp, key('list', queue, shelf))
  for _, entry in ipairs(redis.call('ZRANGE', exp, '-inf', over, 'BYSCORE', 'LIMIT', 0, batch - swept)) do
    sweep(queue, shelf, entry)
    swept = swept + 1
  end
  local earliest = redis.call('ZRANGE', exp, 0, 0, 'WITHSCORES')[2]
  if earliest then
    redis.call('ZADD', key('shelves'), earliest, member)
  else
    redis.call('ZREM', key('shelves'), member)
  end
  if swept >= batch then break end
end
return { 'SWEPT', swept }

-- Gives the oldest job that is due in some queues to a worker, under a lease with a token that no other claim has had.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 claim id, 2 digest of the claim, 3 a secret for the token, 4 worker, 5 seconds of the lease, 6 retention (ms),
--       7 how long the claim is remembered for its repetition (ms), 8 how many jobs whose delay is over to move, and how
--       many entries of each list to look at for one that has not expired, 9 … queues
-- Returns: DRAINING with the milliseconds that it lasts, unless it is lifted before
--          CLAIMED with the time (µs), passed over, job id and the whole hash; the same job again for the same claim id
--          while the claim is remembered and the lease not over
--          KEY_REUSED: the claim that is remembered under this id had another content
--          NONE with the time (µs), passed over and when the next delay is over (µs, empty for none); passed over are ids
--          of jobs whose delay is over and that stay where they are because a key of theirs is not ours
local claim, digest, secret, worker, seconds = key('claim', ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local retention, walk, passed_over = tonumber(ARGV[6]), tonumber(ARGV[8]), {}
expect('string', claim)

local function claimed(job)
  return { 'CLAIMED', digits(now()), passed_over, job.id, flat(job.record) }
end

local known = redis.call('GET', claim)
if known then
  local token, id, claimed_digest = known:match('^(%S+) (%S+) (%S+)$')
  if id and claimed_digest ~= digest then return { 'KEY_REUSED' } end
  local job = id and load_whole(id)
  if job and job.lease and job.token == token then return claimed(job) end
end

local draining = redis.call('PTTL', key('drain'))
if draining > 0 then return { 'DRAINING', draining } end
expect('hash', key('queues'))

-- Says whether a queue gives out jobs: it is not paused, and fewer of its jobs are running than may.
local function is_open(queue)
  local paused, cap = (redis.call('HGET', key('queues'), queue) or '0:'):match('^(%d):(%d*)$')
  if paused ~= '0' then return false end
  local running = key('exp', queue, 'running')
  return cap == '' or redis.call('ZCOUNT', running, digits(math.floor(now() / 1000)), '+inf') < tonumber(cap)
end

-- Each of these moves is whole: nothing is left half done where a key of a queue that is asked for is not ours.
local over, filled = redis.call('ZRANGE', key('due'), '-inf', digits(now()), 'BYSCORE', 'LIMIT', 0, walk), {}
if #over > 0 then expect_shared() end
for _, member in ipairs(over) do
  local id = member:match('^[^:]*:(.*)$') or ''
  local ours, job = pcall(load, id)
  if ours and not (job and job.shelf == 'delayed' and due_member(job) == member) then
    redis.call('ZREM', key('due'), member)
  elseif ours and pcall(expect_shelves, job.queue, 'delayed', 'pending') then
    take(job)
    job.shelf = 'pending'
    put(job)
    filled[job.queue] = true
  else
    passed_over[#passed_over + 1] = id
    redis.call('ZADD', key('due'), digits(now() + PASSED_OVER * 1000), member)
  end
end
for queue in pairs(filled) do tell('queue', queue) end

local best, created
for i = 9, #ARGV do
  local queue = ARGV[i]
  local list = key('list', queue, 'pending')
  expect('zset', list)
  if is_open(queue) then
    local id, at = first_alive(list, walk, created, 'pending')
    if id then best, created = id, at end
  end
end
if not best then
  local due = redis.call('ZRANGE', key('due'), 0, 0, 'WITHSCORES')[2] or ''
  return { 'NONE', digits(now()), passed_over, due }
end

local job = load_whole(best)
expect_indexes(job, 'pending', 'running')
local token = digits(job.attempt + 1) .. '-' .. secret
change(job, { status = 'running', retention = retention, lease = math.floor(now() / 1000) + seconds * 1000,
  set = { worker = worker, lease_seconds = seconds, _token = token } })
redis.call('SET', claim, table.concat({ token, best, digest }, ' '), 'PX', ARGV[7])
return claimed(job)

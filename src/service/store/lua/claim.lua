-- Gives the oldest jobs that are due in some queues to a worker, each under a lease with a token that no other claim has had.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 claim id, 2 digest of the claim, 3 a secret for the tokens, 4 worker, 5 seconds of the leases, 6 retention (ms),
--       7 how long the claim is remembered for its repetition (ms), 8 most jobs, 9 most bytes of their records together (a
--       single job may have more), 10 how many delays that are over to end, and how many entries of each list that cannot be
--       claimed to pass, 11 … queues, each once
-- Returns: DRAINING with the milliseconds that it lasts, unless it is ended before
--          CLAIMED with the time (µs), skipped ids, then id, whole record, …; the same jobs again for the same claim id,
--          while the claim is remembered, as far as their leases are not over
--          KEY_REUSED: the claim that is remembered under this id had another content
--          NONE with the time (µs), skipped ids and when the next delay is over (µs, empty for none); skipped are jobs that
--          stay where they are because a key of theirs is not ours
local claim, digest, secret, worker, seconds = key('claim', ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local retention, max_jobs, max_bytes, max_scan = tonumber(ARGV[6]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local claimed, remembered, skipped = {}, { digest }, {}

local function add_claimed(job)
  claimed[#claimed + 1] = job.id
  claimed[#claimed + 1] = public(job)
end

local known = redis.call('GET', claim)
if known then
  local known_digest, pairs_of_id_and_token = known:match('^(%S+)(.*)$')
  if known_digest ~= digest then return { 'KEY_REUSED' } end
  for id, token in pairs_of_id_and_token:gmatch('(%S+) (%S+)') do
    local job = load_job_with_record(id)
    if job and job.has_lease and job.token == token then add_claimed(job) end
  end
  if #claimed > 0 then return { 'CLAIMED', to_integer_string(NOW), skipped, unpack(claimed) } end
end

local draining = (tonumber(redis.call('HGET', key('meta'), 'drain') or nil) or 0) - NOW_MS
if draining > 0 then return { 'DRAINING', draining } end

-- How many jobs a queue may give: none while it is paused, and no more than its `max_running` leaves room for.
local function room_of(queue, settings)
  local paused, max_running = (settings or '0:'):match('^(%d):(%d*)$')
  if paused ~= '0' then return 0 end
  if max_running == '' then return math.huge end
  return tonumber(max_running) - redis.call('ZCARD', key('by_created', queue, 'running'))
end

-- A cursor over the due jobs of a queue, oldest first, stands at `id` and `created`; at its end `id` is nil.
local function advance(cursor)
  cursor.at = cursor.at + 2
  if cursor.at > #cursor.entries and not cursor.ended then
    cursor.entries = redis.call('ZRANGE', key('by_created', cursor.queue, 'pending'), cursor.bound, '+inf', 'BYSCORE',
      'LIMIT', '0', cursor.size, 'WITHSCORES')
    cursor.at, cursor.ended = 1, #cursor.entries < 2 * cursor.size
    cursor.bound, cursor.size = '(' .. (cursor.entries[#cursor.entries] or ''), 4 * cursor.size
  end
  cursor.id, cursor.created = cursor.entries[cursor.at], cursor.entries[cursor.at + 1]
end

local function open_cursors()
  local cursors, queues = {}, { unpack(ARGV, 11) }
  local settings = redis.call('HMGET', key('queues'), unpack(queues))
  for i, queue in ipairs(queues) do
    local room = room_of(queue, settings[i])
    if room > 0 then
      local cursor = { queue = queue, room = room, entries = {}, at = 0, bound = '-inf', size = max_jobs, passed = 0 }
      advance(cursor)
      cursors[#cursors + 1] = cursor
    end
  end
  return cursors
end

local function oldest_of(cursors)
  local oldest
  for _, cursor in ipairs(cursors) do
    if cursor.id and cursor.room > 0 and cursor.passed < max_scan and (not oldest or tonumber(cursor.created) < tonumber(oldest.created)) then
      oldest = cursor
    end
  end
  return oldest
end

-- The job that a cursor stands at, if it can be claimed.
local function load_due(cursor)
  local loaded, job = pcall(load_job_with_record, cursor.id)
  if not loaded then skipped[#skipped + 1] = cursor.id end
  if loaded and job and job.state == 'pending' and job.created == cursor.created and job.queue == cursor.queue then
    return job
  end
  cursor.passed = cursor.passed + 1
end

local function start(job)
  local suffix = #claimed > 0 and '.' .. #claimed / 2 or ''
  local token = number_in(job, 'attempt', 0) + 1 .. '-' .. secret .. suffix
  change(job, { status = 'running', retention = retention, lease = NOW_MS + seconds * 1000,
    set = { worker = worker, lease_seconds = seconds, _token = token } })
  add_claimed(job)
  remembered[#remembered + 1] = job.id
  remembered[#remembered + 1] = token
end

local function size_of(job)
  local bytes = 0
  for name, value in pairs(job.fields) do bytes = bytes + #name + #value end
  return bytes
end

skipped = end_delays(ARGV[10])
local cursors, bytes = open_cursors(), 0
local cursor = oldest_of(cursors)
while cursor do
  local job = load_due(cursor)
  if job then
    bytes = bytes + (max_jobs > 1 and size_of(job) or 0)
    if bytes > max_bytes and #claimed > 0 then break end
    local started, failure = pcall(start, job)
    if not started and #claimed == 0 then error(failure) end
    if not started or #claimed == 2 * max_jobs then break end
    cursor.room = cursor.room - 1
  end
  advance(cursor)
  cursor = oldest_of(cursors)
end
if #claimed == 0 then return { 'NONE', to_integer_string(NOW), skipped, next_delay() } end

redis.call('SET', claim, table.concat(remembered, ' '), 'PX', ARGV[7])
return finish({ 'CLAIMED', to_integer_string(NOW), skipped, unpack(claimed) })

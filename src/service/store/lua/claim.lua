-- Gives jobs that are due in some queues to a worker, the first ones in the order of claims, each under a lease with a token
-- that no other claim has had.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 claim id, 2 digest of the claim, 3 a secret for the tokens, 4 worker, 5 seconds of the leases, 6 retention (ms),
--       7 how long the claim is remembered for its repetition (ms), 8 most jobs, 9 most bytes of their records together (the
--       first job may have more), 10 how many entries of each list that cannot be claimed to pass, 11 `1` to end delays
--       first, `0` if that was done, 12 … queues, each once. With several partitions 11 goes on with `:` and ` name=number` …:
--       `:plan` of a claim that can be repeated, the number of its plan, which claims in this partition once only; `:strict`
--       where the first job may not have more bytes either; and for a queue with `max_running` by its name how many of its
--       jobs run in other partitions, which is true until `:until` (µs)
-- Returns: DRAINING with the milliseconds that it lasts, unless it is ended before
--          DELAY_OVER: delays must be ended first
--          CLAIMED with the time (µs), skipped, then id, whole record, …; the same jobs again for the same claim id, while
--          the claim is remembered, as far as their leases are not over. Skipped are id and error of each job, or queue,
--          that stays where it is because a key of it is not ours
--          KEY_REUSED: the claim that is remembered under this id had another content
--          NONE with the time (µs), skipped and when the next delay is over (µs, empty for none)
local claim, digest, secret, worker, seconds = key('claim', ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local retention, max_jobs, max_scan = tonumber(ARGV[6]), tonumber(ARGV[8]), tonumber(ARGV[10])
-- What the claim knows of other partitions; false with one partition.
local facts = #ARGV[11] > 1 and {}
if facts then
  for name, number in ARGV[11]:gmatch('(%S+)=(%d+)') do facts[name] = tonumber(number) end
end
local claimed, remembered, cursors, queue_count = {}, digest, {}, #ARGV - 11
-- Jobs and queues that were skipped because a key of theirs is not ours, and why; the first failure of an index.
local skipped, refusal = {}, nil

local known = call('GET', claim)
if known then
  local known_digest, plan, ids_and_tokens = known:match('^([^%s:]+):?(%d*)(.*)$')
  if known_digest ~= digest and known_digest ~= '-' then return { 'KEY_REUSED' } end
  for id, token in ids_and_tokens:gmatch('(%S+) (%S+)') do
    local loaded, job = pcall(load_job_with_record, id)
    if loaded and job and job.has_lease and job.token == token then
      claimed[#claimed + 1] = id
      claimed[#claimed + 1] = public(job)
    end
  end
  if #claimed > 0 then return { 'CLAIMED', NOW, skipped, unpack(claimed) } end
  -- This plan has claimed here before, so a script that comes late must not claim for a plan that was given up.
  if facts and facts[':plan'] and (tonumber(plan) or 0) >= facts[':plan'] then return { 'NONE', NOW, skipped, '' } end
end

local draining = (tonumber(call('HGET', key('meta'), 'drain') or nil) or 0) - NOW_MS
if draining > 0 then return { 'DRAINING', draining } end
local next_delay = call('ZRANGE', key('delays'), '0', '0', 'WITHSCORES')[2]
if next_delay and ARGV[11]:byte() == 49 and tonumber(next_delay) <= NOW then return { 'DELAY_OVER' } end

-- A cursor over a list of due jobs of a queue, in the order of claims, stands at `id` and `order`; at its end `id` is nil.
local function advance(cursor)
  cursor.at = cursor.at + 2
  if cursor.at > #cursor.entries and not cursor.ended then
    -- The jobs before these were claimed, so they are not in the list any more, or passed.
    cursor.entries = call('ZRANGE', cursor.list, cursor.passed, cursor.passed + cursor.size - 1, 'WITHSCORES')
    cursor.at, cursor.ended, cursor.size = 1, #cursor.entries < 2 * cursor.size, 4 * cursor.size
  end
  cursor.id, cursor.order = cursor.entries[cursor.at], tonumber(cursor.entries[cursor.at + 1])
end

local function open_cursor(queue, state, list, size)
  local cursor = { queue = queue, state = state, list = list, passed = 0, entries = {}, at = 0, ended = false, size = size,
    id = nil, order = nil }
  advance(cursor)
  return cursor
end

-- A queue that is paused, or has as many running jobs as it may, gives none.
local function open_queue(name, settings, size)
  local paused, max_running, room = nil, nil, math.huge
  if settings then
    paused, max_running = parse_settings(settings)
    if max_running and max_running ~= '' then
      room = tonumber(max_running) - call('ZCARD', key('by_created', name, 'running'))
        - call('ZCARD', key('by_created', name, 'unleased'))
      if facts then room = facts[name] and NOW <= (facts[':until'] or 0) and room - facts[name] or 0 end
    end
    if paused ~= '0' then room = 0 end
  end
  if room <= 0 then return end
  local queue = { name = name, room = room }
  local plain = open_cursor(queue, 'pending', key('by_created', name, 'pending'), size)
  local prioritized = open_cursor(queue, 'prioritized', key('by_priority', name), size)
  cursors[#cursors + 1] = plain
  if prioritized.id then cursors[#cursors + 1] = prioritized end
end

local page_size = math.ceil(max_jobs / queue_count)
local settings_of = call('HMGET', key('queues'), unpack(ARGV, 12))
for i, settings in ipairs(settings_of) do
  local opened, failure = pcall(open_queue, ARGV[11 + i], settings, page_size)
  if not opened then
    refusal = refusal or error_text(failure)
    note_skipped(skipped, ARGV[11 + i], error_text(failure))
  end
end

local function first_of(all, most_passed)
  local first
  for i = 1, #all do
    local cursor = all[i]
    if cursor.id and cursor.queue.room > 0 and cursor.passed < most_passed then
      if not first or cursor.order < first.order then first = cursor end
    end
  end
  return first
end

local plan = facts and facts[':plan']

-- The reply if no job was claimed.
local function none()
  if plan then redis.call('SET', claim, (known and digest or '-') .. ':' .. plan, 'PX', ARGV[7]) end
  if refusal then error({ err = refusal }) end
  return { 'NONE', NOW, skipped, next_delay and format('%d', next_delay) or '' }
end

local cursor, bytes = first_of(cursors, max_scan), 0
if not cursor then return none() end

while cursor do
  local loaded, job = pcall(load_job_with_record, cursor.id)
  local is_due = loaded and job and job.state == cursor.state and job.queue == cursor.queue.name
    and claim_order(job) == cursor.order
  local started, failure, token = false, nil, nil
  if is_due then
    if max_jobs > 1 or (facts and facts[':strict']) then
      for _, value in pairs(job.fields) do bytes = bytes + #value end
      if bytes > tonumber(ARGV[9]) and (#claimed > 0 or (facts and facts[':strict'])) then break end
    end
    token = format('%d', (tonumber(job.fields.attempt) or 0) + 1) .. '-' .. secret
    if #claimed > 0 then token = token .. '.' .. #claimed / 2 end
    started, failure = attempt(change, job, { status = 'running', retention = retention, lease = NOW_MS + seconds * 1000,
      set = { worker = worker, lease_seconds = seconds, _token = token } })
  elseif not loaded then
    failure = error_text(job)
  end
  if failure then
    note_skipped(skipped, cursor.id, failure)
    if failure:sub(1, 4) == 'ERR ' then refusal = refusal or failure end -- such as a command that the user may not run
  end
  if started then
    claimed[#claimed + 1], claimed[#claimed + 2] = job.id, public(job)
    remembered = remembered .. ' ' .. job.id .. ' ' .. token
    if #claimed == 2 * max_jobs then break end
    cursor.queue.room = cursor.queue.room - 1
  elseif is_due and failure:sub(1, 10) == 'WRONGTYPE ' then -- an index, which the others of this queue need, too
    refusal, cursor.queue.room = refusal or failure, 0
  else
    cursor.passed = cursor.passed + 1
  end
  advance(cursor)
  cursor = first_of(cursors, max_scan)
end
if #claimed == 0 then return none() end
if plan then remembered = digest .. ':' .. plan .. remembered:sub(#digest + 1) end
redis.call('SET', claim, remembered, 'PX', ARGV[7])
return { 'CLAIMED', NOW, skipped, unpack(claimed) }

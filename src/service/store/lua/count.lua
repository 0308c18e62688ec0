-- Counts the jobs of each queue and state, exactly, also before the sweep of those that have expired.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 the only status to count, 2 the only queue (each empty for all), 3 how many expired jobs to subtract at most
-- Returns: COUNTED with the time (µs), the number of live leases, the number of jobs whose delay is not over, then queue,
--          state, count, …
--          MORE: too many jobs have expired and must be swept first
local status, queue_asked, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local before_now = '(' .. NOW_MS
local expired = call('ZRANGE', key('by_expiry'), '-inf', before_now, 'BYSCORE', 'LIMIT', 0, limit + 1)
if #expired > limit then return { 'MORE' } end

local counts = {}
for _, queue in ipairs(queue_asked == '' and call('SMEMBERS', key('queue_names')) or { queue_asked }) do
  counts[queue] = {}
  for _, state in ipairs(STATES) do
    if status == '' or status == status_of(state) then
      counts[queue][state] = call('ZCARD', key('by_created', queue, state))
    end
  end
end
for _, member in ipairs(expired) do
  local job = parse_expiry_member(member)
  local of_queue = job and counts[job.queue]
  local state = of_queue and listed_state(job)
  if state and of_queue[state] then of_queue[state] = of_queue[state] - 1 end
end

local reply = { 'COUNTED', NOW, call('ZCOUNT', key('leases'), before_now, '+inf'),
  call('ZCOUNT', key('delays'), '(' .. format('%d', NOW), '+inf') }
for queue, of_queue in pairs(counts) do
  for state, count in pairs(of_queue) do
    if count > 0 then
      for _, value in ipairs({ queue, state, count }) do reply[#reply + 1] = value end
    end
  end
end
return reply

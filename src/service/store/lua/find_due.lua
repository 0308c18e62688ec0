-- Finds the job of each queue that the next claim gets, whatever the settings of the queue are.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 the only queue (empty for all), 2 how many entries of each list to look at for one that has not expired
-- Returns: FOUND with the time (µs), then for each queue with a due job its name, the place of the job in the order of claims
--          and since when the job is due (both µs)
local queue_asked, max_scan = ARGV[1], tonumber(ARGV[2])
local reply = { 'FOUND', NOW }

for _, queue in ipairs(queue_asked == '' and call('SMEMBERS', key('queue_names')) or { queue_asked }) do
  local first
  for state, list in pairs({ pending = key('by_created', queue, 'pending'), prioritized = key('by_priority', queue) }) do
    walk(list, max_scan, function(id, order)
      if first and order >= first.order then return true end
      local loaded, job = pcall(load_job, id)
      if not (loaded and job and job.state == state and job.queue == queue and claim_order(job) == order) then return false end
      -- Its last change made it pending.
      first = { order = order, since = math.max(parse_time(job.fields.updated_at) or 0, parse_time(job.fields.available_at) or 0) }
      return true
    end)
  end
  if first then
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = queue, format('%d', first.order), first.since
  end
end
return reply

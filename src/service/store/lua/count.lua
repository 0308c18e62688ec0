-- Counts the jobs of each queue and shelf, exactly, with nothing swept.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 the only shelf to count, or empty for all
-- Returns: COUNTED with the time (µs), the number of live leases, the number of jobs whose delay is not over, then queue,
--          shelf, count, …
local at = now()
local counts = { 'COUNTED', digits(at), redis.call('ZCOUNT', key('leases'), '(' .. digits(at / 1000), '+inf'),
  redis.call('ZCOUNT', key('due'), '(' .. digits(at), '+inf') }
for _, member in ipairs(redis.call('ZRANGE', key('shelves'), 0, -1)) do
  local queue, shelf = shelf_of(member)
  if ARGV[1] == '' or ARGV[1] == shelf then
    counts[#counts + 1] = queue
    counts[#counts + 1] = shelf
    counts[#counts + 1] = redis.call('ZCOUNT', key('exp', queue, shelf), digits(math.floor(at / 1000)), '+inf')
  end
end
return counts

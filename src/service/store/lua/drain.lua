-- Starts or ends a drain, under which no job is created or claimed, and wakes waiting claims; or only looks.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 `start`, `end` or `look`, 2 for how long (ms, to start)
-- Returns: DRAIN with the time (µs) and the milliseconds that it lasts (0 for none)
local meta = key('meta')
local ends = tonumber(call('HGET', meta, 'drain') or nil) or 0
if ARGV[1] == 'start' then
  emit('drain', 'queue', '')
  ends = NOW_MS + tonumber(ARGV[2])
  redis.call('HSET', meta, 'drain', format('%d', ends))
elseif ARGV[1] == 'end' then
  emit('drain', 'queue', '')
  ends = 0
  redis.call('HDEL', meta, 'drain')
end
return { 'DRAIN', NOW, math.max(0, ends - NOW_MS) }

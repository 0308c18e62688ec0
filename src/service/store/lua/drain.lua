-- Starts or ends a drain, under which no job is created or claimed, and wakes waiting claims; or only looks.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 `start`, `until`, `end` or `look`, 2 for how long (ms, to start), or until when (ms)
-- Returns: DRAIN with the time (µs) and the milliseconds that it lasts (0 for none)
local meta = key('meta')
local ends = tonumber(call('HGET', meta, 'drain') or nil) or 0
if ARGV[1] ~= 'look' then
  emit('drain', 'queue', '')
  ends = (ARGV[1] == 'start' and NOW_MS or 0) + (tonumber(ARGV[2]) or 0)
  if ends > 0 then
    redis.call('HSET', meta, 'drain', format('%d', ends))
  else
    redis.call('HDEL', meta, 'drain')
  end
end
return { 'DRAIN', NOW, math.max(0, ends - NOW_MS) }

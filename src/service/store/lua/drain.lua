-- Starts or lifts a drain, under which no job is created or claimed, and tells those who wait; or only looks.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 `start`, `end` or `look`, 2 for how long (ms, to start)
-- Returns: DRAIN with the time (µs) and the milliseconds that it lasts (0 for none)
local drain = key('drain')
expect('string', drain)
expect('stream', key('events'))
if ARGV[1] == 'start' then
  redis.call('SET', drain, '1', 'PX', ARGV[2])
  tell('drain', '')
elseif ARGV[1] == 'end' then
  redis.call('DEL', drain)
  tell('drain', '')
end
return { 'DRAIN', digits(now()), math.max(0, redis.call('PTTL', drain)) }

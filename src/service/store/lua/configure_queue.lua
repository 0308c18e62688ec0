-- Changes settings of a queue, and wakes the claims that wait for its jobs if anything has changed.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 queue, 2 paused (`1`, `0` or empty to keep it), 3 how many of its jobs may run (`0` for any number, or empty to
--       keep it)
-- Returns: CONFIGURED with the settings as they are then, `paused:most` as the queue's field holds them; a queue like any
--          other has no field. Settings that cannot be read pause a queue, as they do at a claim.
local queue, settings = ARGV[1], key('queues')
local held = call('HGET', settings, queue) or '0:'
local paused, most = held:match('^([01]):(%d*)$')
if most == '0' then paused, most = nil, nil end -- a limit of nothing, which no client can set
if ARGV[2] ~= '' then paused = ARGV[2] end
if ARGV[3] ~= '' then most = ARGV[3] == '0' and '' or ARGV[3] end
local wanted = (paused or '1') .. ':' .. (most or '')
if wanted == held then return { 'CONFIGURED', wanted } end

emit('queue', 'queue', queue)
if wanted == '0:' then
  redis.call('HDEL', settings, queue)
else
  redis.call('HSET', settings, queue, wanted)
end
return { 'CONFIGURED', wanted }

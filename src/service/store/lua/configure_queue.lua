-- Changes settings of a queue, and wakes the claims that wait for its jobs if anything has changed.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 queue, 2 paused (`1`, `0` or empty to keep it), 3 how many of its jobs may run (`0` for any number, or empty to
--       keep it), 4, 5, 6 for how many seconds completed, failed and cancelled jobs are kept (`0` for the retention of the
--       service, or empty to keep it)
-- Returns: CONFIGURED with the settings as they are then, as the queue's field holds them: `paused:most`, and
--          `:completed:failed:cancelled` if one of these is set; a queue like any other has no field. Settings that cannot
--          be read pause a queue, as they do at a claim.
local queue, settings = ARGV[1], key('queues')
local held = call('HGET', settings, queue) or '0:'
local paused, most, completed, failed, cancelled = parse_settings(held)
if most == '0' or not (paused == '0' or paused == '1') then paused, most = nil, nil end -- no client can set these
local retention = { completed or '', failed or '', cancelled or '' }
if ARGV[2] ~= '' then paused = ARGV[2] end
if ARGV[3] ~= '' then most = ARGV[3] == '0' and '' or ARGV[3] end
for i = 1, 3 do
  local given = ARGV[3 + i]
  if given ~= '' then retention[i] = given == '0' and '' or given end
end
local wanted, ends = (paused or '1') .. ':' .. (most or ''), table.concat(retention, ':')
if ends ~= '::' then wanted = wanted .. ':' .. ends end
if wanted == held then return { 'CONFIGURED', wanted } end

emit('queue', 'queue', queue)
if wanted == '0:' then
  redis.call('HDEL', settings, queue)
else
  redis.call('HSET', settings, queue, wanted)
end
return { 'CONFIGURED', wanted }

-- Registers a bulk action in a partition. Only jobs that exist there by then can match.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 id of the action, 2 digest of the request, 3 how long it is kept after its last change (ms), 4 … field, value, …
--       of what it is (only at the home of the id)
-- Returns: STARTED, REPLAYED if it had been registered before by an equal request, or KEY_REUSED by another one
local id, digest, kept = ARGV[1], ARGV[2], tonumber(ARGV[3])
local name, meta, fields = key('bulk', id), key('meta'), { unpack(ARGV, 4) }
local held = call('HGET', name, 'digest')
if held then return { held == digest and 'REPLAYED' or 'KEY_REUSED' } end

-- The next creation is later than this, whatever the clock says then.
local last = format('%d', math.max(NOW, tonumber(call('HGET', meta, 'clock') or nil) or 0))
if fields[1] then
  local actions, active = key('bulk_actions'), key('bulk_active')
  call('ZADD', actions, format('%d', NOW_MS + kept), id)
  extend(actions, kept)
  call('ZADD', active, '0', id)
  extend(active, kept)
  redis.call('ZREMRANGEBYSCORE', actions, '-inf', '(' .. NOW_MS)
  fields = { 'state', 'counting', 'created_at', format_time(NOW), unpack(fields) }
end
redis.call('HSET', meta, 'clock', last)
redis.call('HSET', name, 'digest', digest, 'until', last, unpack(fields))
extend(name, kept)
return { 'STARTED' }

-- Stops a bulk action in a partition, where it changes nothing from now on.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 id of the action
-- Returns: ABORTED, or NONE if there is no such action
local id = ARGV[1]
local name = key('bulk', id)
local held, state = unpack(call('HMGET', name, 'digest', 'state'))
if not held then return { 'NONE' } end
if state == 'counting' or state == 'running' then
  call('ZREM', key('bulk_active'), id)
  redis.call('HSET', name, 'state', 'aborted', 'finished_at', format_time(NOW))
end
redis.call('HSET', name, 'stopped', '1')
return { 'ABORTED' }

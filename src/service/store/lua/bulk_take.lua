-- Takes a bulk action for a process that will go on with it, or keeps it taken, and moves it to another state. At the home of
-- its id.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 id of the action, 2 name of the process, 3 for how long it takes the action (ms), 4 how long the action is kept from
--       now on (ms, 0 to leave that), 5 state from which it moves, 6 state to which (both empty to leave it), 7 … field,
--       value, … to set then
-- Returns: TAKEN; HELD if another process has taken it, ENDED if it has ended, NONE if there is none
local id, runner, kept, from, to = ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local name, actions, active = key('bulk', id), key('bulk_actions'), key('bulk_active')
local state, holder = unpack(call('HMGET', name, 'state', 'runner'))
if not state or state == 'done' or state == 'aborted' then
  call('ZREM', active, id)
  return { state and 'ENDED' or 'NONE' }
end
local taken_until = tonumber(call('ZSCORE', active, id) or nil) or 0
if holder ~= runner and taken_until > NOW_MS then return { 'HELD' } end

local fields = { 'runner', runner }
if to ~= '' and state == from then
  fields = { 'runner', runner, 'state', to, unpack(ARGV, 7) }
  state = to
end
local has_ended = state == 'done' or state == 'aborted'
if has_ended then fields[#fields + 1], fields[#fields + 2] = 'finished_at', format_time(NOW) end
call('ZADD', active, format('%d', NOW_MS + ARGV[3]), id)
redis.call('HSET', name, unpack(fields))
if has_ended then redis.call('ZREM', active, id) end
if kept > 0 then
  call('ZADD', actions, format('%d', NOW_MS + kept), id)
  for _, one in ipairs({ name, actions, active }) do extend(one, kept) end
end
return { 'TAKEN' }

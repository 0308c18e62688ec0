-- Finds the job in some states that was created first.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many entries of each list to look at for one that has not expired, 2 … the states
-- Returns: OLDEST with id, queue, created (µs)
--          NONE
local max_scan, best = tonumber(ARGV[1]), nil

-- The first job of a list, by creation, that is still there, in the status of its state: id and created (µs). Nil if there
-- is none among the first `max_scan`, or none that was created before `best`.
local function first_unexpired(list, status)
  local from, count = 0, 1 -- the first is nearly always alive
  while from < max_scan do
    local heads = call('ZRANGE', list, from, from + count - 1, 'WITHSCORES')
    for i = 1, #heads, 2 do
      local id, created = heads[i], tonumber(heads[i + 1])
      if best and created >= best.created then return nil end
      local fields = read_if_current(id, created)
      if fields and fields[1] == status then return id, created end
    end
    if #heads < 2 * count then return nil end
    from, count = from + count, count * 4
  end
end

for _, queue in ipairs(call('SMEMBERS', key('queue_names'))) do
  for i = 2, #ARGV do
    local state = ARGV[i]
    local id, created = first_unexpired(key('by_created', queue, state), state == 'delayed' and 'pending' or state)
    if id then best = { id = id, queue = queue, created = created } end
  end
end
if not best then return { 'NONE' } end
return { 'OLDEST', best.id, best.queue, format('%d', best.created) }

-- Finds the job in a status that was created first.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many entries of each list to look at for one that has not expired, 2 the status
-- Returns: OLDEST with id, queue, created (µs)
--          NONE
local max_scan, status, best = tonumber(ARGV[1]), ARGV[2], nil

for _, queue in ipairs(call('SMEMBERS', key('queue_names'))) do
  for _, state in ipairs(STATES) do
    if status_of(state) == status then
      walk(key('by_created', queue, state), max_scan, function(id, created)
        if best and created >= best.created then return true end
        local fields = read_if_current(id, created)
        if not (fields and fields[1] == status) then return false end
        best = { id = id, queue = queue, created = created }
        return true
      end)
    end
  end
end
if not best then return { 'NONE' } end
return { 'OLDEST', best.id, best.queue, format('%d', best.created) }

-- Finds the job on some shelves that was created first.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many entries of each list to look at for one that has not expired, 2 the shelves
-- Returns: OLDEST with id, queue, created (µs)
--          NONE
local most = tonumber(ARGV[1])
local best

for _, member in ipairs(redis.call('ZRANGE', key('shelves'), 0, -1)) do
  local queue, shelf = shelf_of(member)
  if contains(ARGV[2], shelf) then
    local status = shelf == 'delayed' and 'pending' or shelf
    local id, created = first_alive(key('list', queue, shelf), most, best and best.created, status)
    if id then best = { id = id, queue = queue, created = created } end
  end
end
if not best then return { 'NONE' } end
return { 'OLDEST', best.id, best.queue, digits(best.created) }

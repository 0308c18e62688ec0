-- Finds the pending job that was created first.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many entries of each list to look at for one that has not expired
-- Returns: OLDEST with id, queue, created (µs)
--          NONE
local best

local function consider(queue, list)
  local heads = redis.call('ZRANGE', list, 0, ARGV[1] - 1, 'WITHSCORES')
  for i = 1, #heads, 2 do
    if redis.call('EXISTS', job_key(heads[i])) == 1 then
      local created = tonumber(heads[i + 1])
      if not best or created < best.created then best = { id = heads[i], queue = queue, created = created } end
      return
    end
  end
end

for _, member in ipairs(redis.call('ZRANGE', key('shelves'), 0, -1)) do
  local queue, shelf = shelf_of(member)
  if shelf == 'pending' or shelf == 'delayed' then consider(queue, key('list', queue, shelf)) end
end
if not best then return { 'NONE' } end
return { 'OLDEST', best.id, best.queue, digits(best.created) }

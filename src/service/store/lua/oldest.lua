-- Finds the pending job that was created first.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 how many entries of each list to look at for one that has not expired
-- Returns: OLDEST with id, queue, created (µs)
--          NONE
local most = tonumber(ARGV[1])
local best

local function consider(queue, list)
  local from, count = 0, 1 -- the first is nearly always alive
  while from < most do
    local heads = redis.call('ZRANGE', list, from, from + count - 1, 'WITHSCORES')
    for i = 1, #heads, 2 do
      local id, created = heads[i], tonumber(heads[i + 1])
      if best and created >= best.created then return end
      if current(id, created) then
        best = { id = id, queue = queue, created = created }
        return
      end
    end
    if #heads < 2 * count then return end
    from, count = from + count, count * 4
  end
end

for _, member in ipairs(redis.call('ZRANGE', key('shelves'), 0, -1)) do
  local queue, shelf = shelf_of(member)
  if shelf == 'pending' or shelf == 'delayed' then consider(queue, key('list', queue, shelf)) end
end
if not best then return { 'NONE' } end
return { 'OLDEST', best.id, best.queue, digits(best.created) }

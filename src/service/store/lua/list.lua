-- Lists jobs, newest first, with what the caller wants to see of each.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 most jobs, 2 most bytes of large fields, 3 most index entries to walk,
--       4 only jobs created before this (µs; empty for no bound), 5 status, 6 queue, 7 slate_id, 8 correlation_id
--       (each empty for any), 9 how many of the fields that follow are large, 10 … fields, the large ones last
-- Returns: PAGE with the time (µs), where to go on (created µs; empty at the end), then for each job its id and its values
local most, most_bytes, most_walked = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local before, status, queue, slate_id, correlation_id = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local fields, large = { unpack(ARGV, 10) }, {}
for i = #ARGV - tonumber(ARGV[9]) + 1, #ARGV do large[#large + 1] = ARGV[i] end
local LARGEST_CHUNK = 64

-- A run over one index, newest first: a table with the entry it stands at in `id` and `created`; no `id` at its end.
-- It reads ahead by little at first: with many queues few entries of each are wanted.
local function run(fetch)
  local chunk, at, bound, size = {}, 1, before, 1
  local self = {}
  function self.step()
    if at > #chunk and not self.ended then
      chunk, at = fetch(bound, size), 1
      self.ended = #chunk < size
      size = math.min(size * 4, LARGEST_CHUNK)
      if #chunk > 0 then bound = digits(chunk[#chunk].created) end
    end
    local entry = chunk[at] or {}
    self.id, self.created = entry.id, entry.created
    at = at + 1
  end
  self.step()
  return self
end

local function run_over_list(name)
  return run(function(bound, size)
    local chunk = {}
    local found = redis.call('ZRANGE', name, bound == '' and '+inf' or '(' .. bound, '-inf', 'BYSCORE', 'REV',
      'LIMIT', 0, size, 'WITHSCORES')
    for i = 1, #found, 2 do chunk[#chunk + 1] = { id = found[i], created = tonumber(found[i + 1]) } end
    return chunk
  end)
end

local function run_over_tag(name)
  return run(function(bound, size)
    local chunk = {}
    local from = bound == '' and '(' .. name .. ';' or '(' .. name .. ':' .. string.format('%016.0f', bound)
    for _, member in ipairs(redis.call('ZRANGE', key('tags'), from, '[' .. name .. ':', 'BYLEX', 'REV', 'LIMIT', 0, size)) do
      local created, id = member:match('^[^:]*:(%d+):(.*)$')
      chunk[#chunk + 1] = { id = id, created = tonumber(created) }
    end
    return chunk
  end)
end

local function runs_over_shelves()
  local runs = {}
  for _, member in ipairs(redis.call('ZRANGE', key('shelves'), 0, -1)) do
    local of_queue, shelf = shelf_of(member)
    local public = shelf == 'delayed' and 'pending' or shelf
    if (queue == '' or queue == of_queue) and (status == '' or status == public) then
      local one = run_over_list(key('list', of_queue, shelf))
      if one.id then runs[#runs + 1] = one end
    end
  end
  return runs
end

local function all_runs()
  if correlation_id ~= '' then return { run_over_tag(tag('c', correlation_id)) } end
  if slate_id ~= '' then return { run_over_tag(tag('s', slate_id)) } end
  return runs_over_shelves()
end

-- The runs as a heap: the one that stands at the newest entry first.
local runs = all_runs()
local function sink(i)
  while true do
    local newest = i
    for child = 2 * i, math.min(2 * i + 1, #runs) do
      if runs[child].created > runs[newest].created then newest = child end
    end
    if newest == i then return end
    runs[i], runs[newest] = runs[newest], runs[i]
    i = newest
  end
end
for i = math.floor(#runs / 2), 1, -1 do sink(i) end
if runs[1] and not runs[1].id then runs = {} end

local function advance()
  runs[1].step()
  if not runs[1].id then
    runs[1] = runs[#runs]
    runs[#runs] = nil
  end
  if #runs > 1 then sink(1) end
end

local function matches(id, created)
  local held = current(id, created, 'queue', 'slate_id', 'correlation_id')
  return held and (status == '' or status == held[1]) and (queue == '' or queue == held[2])
    and (slate_id == '' or slate_id == held[3]) and (correlation_id == '' or correlation_id == held[4])
end

local page, found, walked, bytes, last = { 'PAGE', digits(now()), '' }, 0, 0, 0, ''
while runs[1] do
  local id, created = runs[1].id, runs[1].created
  local fits = matches(id, created)
  if fits then
    for _, name in ipairs(large) do bytes = bytes + redis.call('HSTRLEN', job_key(id), name) end
  end
  if found == most or walked == most_walked or (bytes > most_bytes and found > 0) then
    page[3] = last
    return page
  end
  if fits then
    page[#page + 1] = id
    page[#page + 1] = redis.call('HMGET', job_key(id), unpack(fields))
    found = found + 1
  end
  walked, last = walked + 1, digits(created)
  advance()
end
return page

-- Lists jobs, newest first, with what the caller wants to see of each.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 most jobs, 2 most bytes of large fields (empty: their size is wanted instead of them), 3 most index entries to walk,
--       4 only jobs created before this, 5 only those created after this (µs; each empty for no bound), 6 status, 7 queue,
--       8 slate_id, 9 correlation_id (each empty for any), 10 the tag to walk, and behind commas the tags that the jobs must
--       also have (empty for any jobs), 11 how many of the fields that follow are large, 12 … fields, the large ones
--       last
-- Returns: PAGE with the time (µs), where to go on (created µs; empty at the end), then for each job its id and its values.
--          Without large fields each job's values end with its creation time (µs) and the bytes of these fields
local most, most_bytes, max_scan = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local before, after, status, queue = ARGV[4], tonumber(ARGV[5]) or -1, ARGV[6], ARGV[7]
local slate_id, correlation_id, tag, other_tags = ARGV[8], ARGV[9], ARGV[10]:match('^([^,]*)(.*)$')
local fields, large = { unpack(ARGV, 12) }, { unpack(ARGV, #ARGV - tonumber(ARGV[11]) + 1) }
if not most_bytes then fields = { unpack(fields, 1, #fields - #large) } end
local LARGEST_CHUNK = 64

-- Both read entries of an index, newest first, as id, created, …: at most `size` of those created before `bound` (µs; empty
-- for no bound).
local function read_list(name, bound, size)
  if bound == '' then return call('ZRANGE', name, '0', size - 1, 'REV', 'WITHSCORES') end
  return call('ZRANGE', name, '(' .. bound, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', size, 'WITHSCORES')
end

local function read_tag(name, bound, size)
  local from = bound == '' and '(' .. name .. ';' or '(' .. name .. ':' .. format('%016.0f', bound)
  local entries = {}
  for _, member in ipairs(call('ZRANGE', key('tags'), from, '[' .. name .. ':', 'BYLEX', 'REV', 'LIMIT', '0', size)) do
    local created, id = member:match('^[^:]*:(%d+):(.*)$')
    entries[#entries + 1] = id
    entries[#entries + 1] = created
  end
  return entries
end

local read = tag == '' and read_list or read_tag

-- A cursor over one index stands at `id` and `created`; at its end `id` is nil. It reads ahead by little at first: with many
-- queues few entries of each are wanted.
local function advance_cursor(cursor)
  local entries = cursor.entries
  cursor.at = cursor.at + 2
  if cursor.at > #entries and #entries == 2 * cursor.size then
    cursor.size = math.min(cursor.size * 4, LARGEST_CHUNK)
    entries = read(cursor.name, format('%d', cursor.created), cursor.size)
    cursor.entries, cursor.at = entries, 1
  end
  cursor.id, cursor.created = entries[cursor.at], tonumber(entries[cursor.at + 1])
end

local cursors = {}

local function open_cursor(name)
  local entries = read(name, before, 1)
  if entries[1] then
    cursors[#cursors + 1] = { name = name, entries = entries, at = 1, size = 1, id = entries[1],
      created = tonumber(entries[2]) }
  end
end

local function open_cursors()
  if tag ~= '' then return open_cursor(tag) end
  for _, name in ipairs(queue == '' and call('SMEMBERS', key('queue_names')) or { queue }) do
    for _, state in ipairs(STATES) do
      if status == '' or status == status_of(state) then
        open_cursor(key('by_created', name, state))
      end
    end
  end
end

open_cursors()

-- The cursors as a heap: the one that stands at the newest entry first.
local function sift_down(i)
  while true do
    local newest = i
    for child = 2 * i, math.min(2 * i + 1, #cursors) do
      if cursors[child].created > cursors[newest].created then newest = child end
    end
    if newest == i then return end
    cursors[i], cursors[newest] = cursors[newest], cursors[i]
    i = newest
  end
end
for i = floor(#cursors / 2), 1, -1 do sift_down(i) end

local function advance()
  advance_cursor(cursors[1])
  if not cursors[1].id then
    cursors[1] = cursors[#cursors]
    cursors[#cursors] = nil
  end
  if #cursors > 1 then sift_down(1) end
end

local function has_tags(tags)
  for wanted in other_tags:gmatch('[^,]+') do
    if not (',' .. tags .. ','):find(',' .. wanted .. ',', 1, true) then return false end
  end
  return true
end

local function matches(id, created)
  local fields = read_if_current(id, created, 'queue', 'slate_id', 'correlation_id', '_tags')
  return fields and has_tags(fields[5] or '') and (status == '' or status == fields[1]) and (queue == '' or queue == fields[2])
    and (slate_id == '' or slate_id == fields[3]) and (correlation_id == '' or correlation_id == fields[4])
end

local page, found, scanned, bytes, last = { 'PAGE', NOW, '' }, 0, 0, 0, ''
while cursors[1] and cursors[1].created > after do
  local id, created = cursors[1].id, cursors[1].created
  local fits, size = matches(id, created), 0
  if fits then
    for _, name in ipairs(large) do size = size + redis.call('HSTRLEN', job_key(id), name) end
  end
  bytes = bytes + size
  if found == most or scanned == max_scan or (most_bytes and bytes > most_bytes and found > 0) then
    page[3] = last
    return page
  end
  if fits then
    page[#page + 1] = id
    local row = redis.call('HMGET', job_key(id), unpack(fields))
    if not most_bytes then
      row[#row + 1] = format('%d', created)
      row[#row + 1] = size
    end
    page[#page + 1] = row
    found = found + 1
  end
  scanned, last = scanned + 1, format('%d', created)
  advance()
end
return page

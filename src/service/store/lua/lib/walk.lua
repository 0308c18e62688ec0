-- A walk over the jobs of a partition that match filters, in the order of their creation.

-- How many entries of an index are read at once, at most.
local LARGEST_CHUNK = 64

-- Reads entries of a list as id, created, …: at most `size` of those behind `bound` (µs, as text; empty for no bound).
local function read_list(name, bound, size, is_ascending)
  if bound == '' then
    if is_ascending then return call('ZRANGE', name, '0', size - 1, 'WITHSCORES') end
    return call('ZRANGE', name, '0', size - 1, 'REV', 'WITHSCORES')
  end
  if is_ascending then return call('ZRANGE', name, '(' .. bound, '+inf', 'BYSCORE', 'LIMIT', '0', size, 'WITHSCORES') end
  return call('ZRANGE', name, '(' .. bound, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', size, 'WITHSCORES')
end

-- Reads entries of a tag like `read_list`.
local function read_tag(name, bound, size, is_ascending)
  local tags, first, last, members = key('tags'), '[' .. name .. ':', '(' .. name .. ';', nil
  if bound ~= '' then bound = '(' .. name .. ':' .. format('%016.0f', bound) end
  if is_ascending then
    members = call('ZRANGE', tags, bound == '' and first or bound .. ';', last, 'BYLEX', 'LIMIT', '0', size)
  else
    members = call('ZRANGE', tags, bound == '' and last or bound, first, 'BYLEX', 'REV', 'LIMIT', '0', size)
  end
  local entries = {}
  for _, member in ipairs(members) do
    local created, id = member:match('^[^:]*:(%d+):(.*)$')
    entries[#entries + 1] = id
    entries[#entries + 1] = created
  end
  return entries
end

-- A cursor over one index stands at `id` and `created`; at its end `id` is nil. It reads ahead by little at first: with many
-- queues few entries of each are wanted.
local function advance_cursor(cursor, cursors)
  local entries = cursor.entries
  cursor.at = cursor.at + 2
  if cursor.at > #entries and #entries == 2 * cursor.size then
    cursor.size = math.min(cursor.size * 4, LARGEST_CHUNK)
    entries = cursors.read(cursor.name, format('%d', cursor.created), cursor.size, cursors.is_ascending)
    cursor.entries, cursor.at = entries, 1
  end
  cursor.id, cursor.created = entries[cursor.at], tonumber(entries[cursor.at + 1])
end

-- Lets the cursor at place `i` sink in the heap, of which the first cursor is the next one of the walk.
local function sift_down(cursors, i)
  while true do
    local next_one = i
    for child = 2 * i, math.min(2 * i + 1, #cursors) do
      if (cursors[child].created > cursors[next_one].created) ~= cursors.is_ascending then next_one = child end
    end
    if next_one == i then return end
    cursors[i], cursors[next_one] = cursors[next_one], cursors[i]
    i = next_one
  end
end

-- Opens a walk that begins behind `bound` (µs, as text; empty for no bound), and goes on with the newest job, or with
-- `is_ascending` the oldest. `filter` is a table of texts: status, queue, slate_id, correlation_id (each empty for any),
-- tags (the tag to walk, and behind commas the tags that the jobs must also have; empty for any jobs). Returns
-- the walk, a heap of cursors; it stands at the entry of the first one, and has ended if there is none.
local function open_cursors(filter, bound, is_ascending)
  local tag, tags = filter.tags:match('^([^,]*)(.*)$')
  local cursors = { filter = filter, tags = tags, is_ascending = is_ascending, read = tag == '' and read_list or read_tag }
  local names = { tag ~= '' and tag or nil }
  if tag == '' then
    for _, queue in ipairs(filter.queue == '' and call('SMEMBERS', key('queue_names')) or { filter.queue }) do
      for _, state in ipairs(STATES) do
        if filter.status == '' or filter.status == status_of(state) then
          names[#names + 1] = key('by_created', queue, state)
        end
      end
    end
  end
  for _, name in ipairs(names) do
    local entries = cursors.read(name, bound, 1, is_ascending)
    if entries[1] then
      cursors[#cursors + 1] = { name = name, entries = entries, at = 1, size = 1, id = entries[1], created = tonumber(entries[2]) }
    end
  end
  for i = floor(#cursors / 2), 1, -1 do sift_down(cursors, i) end
  return cursors
end

-- Moves a walk to its next entry.
local function advance(cursors)
  advance_cursor(cursors[1], cursors)
  if not cursors[1].id then
    cursors[1] = cursors[#cursors]
    cursors[#cursors] = nil
  end
  if #cursors > 1 then sift_down(cursors, 1) end
end

-- Whether the job at which a walk stands is there and matches.
local function matches(cursors)
  local filter = cursors.filter
  local fields = read_if_current(cursors[1].id, cursors[1].created, 'queue', 'slate_id', 'correlation_id', '_tags')
  if not fields then return false end
  for wanted in cursors.tags:gmatch('[^,]+') do
    if not (',' .. (fields[5] or '') .. ','):find(',' .. wanted .. ',', 1, true) then return false end
  end
  return (filter.status == '' or filter.status == fields[1]) and (filter.queue == '' or filter.queue == fields[2])
    and (filter.slate_id == '' or filter.slate_id == fields[3])
    and (filter.correlation_id == '' or filter.correlation_id == fields[4])
end

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
local most, most_bytes, max_scan, after = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5]) or -1
local fields, large = { unpack(ARGV, 12) }, { unpack(ARGV, #ARGV - tonumber(ARGV[11]) + 1) }
if not most_bytes then fields = { unpack(fields, 1, #fields - #large) } end
local filter = { status = ARGV[6], queue = ARGV[7], slate_id = ARGV[8], correlation_id = ARGV[9], tags = ARGV[10] }
local cursors = open_cursors(filter, ARGV[4], false)

local page, found, scanned, bytes, last = { 'PAGE', NOW, '' }, 0, 0, 0, ''
while cursors[1] and cursors[1].created > after do
  local id, created = cursors[1].id, cursors[1].created
  local fits, size = matches(cursors), 0
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
  advance(cursors)
end
return page

-- How a bulk action goes on in a partition. Its key there is a hash: until, the creation time (µs) of the youngest jobs that
-- can match; counted and acted, the creation (µs) up to which each of the two passes has come (absent: not begun, `end`:
-- all is done); matched and done, numbers of jobs; refused:WORD, the number refused for it; examples, WORD:id of the first
-- refused jobs; stopped, where nothing more may be done. At the home of its id the key also has what the whole action is.

-- How many refused jobs each partition names.
local EXAMPLES = 10

local function extend(name, kept)
  redis.call('PEXPIREAT', name, format('%d', NOW_MS + kept))
end

-- Begins a step of a pass (`counted` or `acted`); nil if it has come to its end, or nothing may be done. `packed` is a filter
-- as `open_cursors` takes it, in MessagePack, and may also have: before and after, creation times (µs) between which the jobs
-- are; labels, because other labels may have the same tag. The action is kept for `kept` (ms).
local function begin_step(pass, id, packed, kept)
  local name, filter = key('bulk', id), cmsgpack.unpack(packed)
  local bound, place, stopped = unpack(call('HMGET', name, 'until', pass, 'stopped'))
  if bound then extend(name, kept) end
  if not bound or place == 'end' or stopped then return nil end
  place = place or filter.after and format('%d', filter.after) or ''
  return { name = name, pass = pass, place = place, labels = filter.labels, cursors = open_cursors(filter, place, true),
    last = filter.before and math.min(tonumber(bound), filter.before - 1) or tonumber(bound) }
end

-- Whether a job has the labels that a step looks for.
local function has_labels(step, id)
  if not step.labels then return true end
  local is_json, held = pcall(cjson.decode, redis.call('HGET', job_key(id), 'labels') or '{}')
  if not is_json or type(held) ~= 'table' then return false end
  for name, value in pairs(step.labels) do
    if held[name] ~= value then return false end
  end
  return true
end

-- Calls `visit` with the ids of the next jobs that match, oldest first, until it returns true, and moves the step behind those
-- before: at most so many jobs and entries of indexes.
local function walk_on(step, max_jobs, max_scan, visit)
  local cursors, found, scanned = step.cursors, 0, 0
  while cursors[1] and cursors[1].created <= step.last do
    if found == max_jobs or scanned == max_scan then return end
    if matches(cursors) and has_labels(step, cursors[1].id) then
      found = found + 1
      if visit(cursors[1].id) then return end
    end
    scanned, step.place = scanned + 1, format('%d', cursors[1].created)
    advance(cursors)
  end
  step.place = 'end'
end

-- Writes how far a step has come, with other fields (a list of field, value, …).
local function end_step(step, fields)
  redis.call('HSET', step.name, step.pass, step.place, unpack(fields))
end

-- The fields that add `done` jobs and refused ones (a list of WORD:id) to those before.
local function added_numbers(step, done, refused)
  local fields, numbers = {}, {}
  if done > 0 then
    fields = { 'done', format('%d', (tonumber(call('HGET', step.name, 'done') or nil) or 0) + done) }
  end
  if #refused > 0 then
    local examples = call('HGET', step.name, 'examples') or ''
    local _, length = examples:gsub('%S+', '')
    for i, one in ipairs(refused) do
      local field = 'refused:' .. one:match('^[^:]+')
      numbers[field] = (numbers[field] or tonumber(call('HGET', step.name, field) or nil) or 0) + 1
      if length + i <= EXAMPLES then examples = examples .. ' ' .. one end
    end
    fields[#fields + 1], fields[#fields + 2] = 'examples', examples
    for field, number in pairs(numbers) do fields[#fields + 1], fields[#fields + 2] = field, format('%d', number) end
  end
  return fields
end

-- Takes a step of the second pass; the arguments are those of `begin_step` and `walk_on`. `act` gets a loaded job, and returns
-- the word for which it is refused, or nil and the kind of the change (nil if there was nothing to change). A job whose record
-- cannot be read is refused. Where a change fails for another reason, the step ends before the job. Returns the reply: STEPPED
-- with 1 at the end of the pass (else 0), why the step ended early (empty if it did not), id and error of each job that was
-- refused for its record or whose index entries were not all removed, and kind, number, … of the changes.
local function act_on_jobs(id, packed, kept, max_jobs, max_scan, act)
  local step = begin_step('acted', id, packed, kept)
  if not step then return { 'STEPPED', 1, '', {}, {} } end
  local kinds, refused, skipped, done, stopped = {}, {}, {}, 0, ''

  local function visit(job_id)
    local word, kind
    local stands, failure = attempt(function() word, kind = act(load_job(job_id) or reject_record(job_id)) end)
    if not stands and not failure:find(job_key(job_id), 1, true) then
      stopped = failure
      return true
    end
    if failure then note_skipped(skipped, job_id, failure) end
    if not stands then word = 'CORRUPT' end
    if word then
      refused[#refused + 1] = word .. ':' .. job_id
    else
      done = done + 1
      if kind then kinds[kind] = (kinds[kind] or 0) + 1 end
    end
  end

  walk_on(step, max_jobs, max_scan, visit)
  end_step(step, added_numbers(step, done, refused))
  local changes = {}
  for kind, number in pairs(kinds) do changes[#changes + 1], changes[#changes + 2] = kind, number end
  return { 'STEPPED', step.place == 'end' and 1 or 0, stopped, skipped, changes }
end

-- The order of writes, which needs no look at the types of keys before it. A change adds index entries and its event, then
-- writes the record, then removes index entries. The record alone says what is true. So a change that fails before the
-- record is written takes back what it added, and has changed nothing; one that fails behind it stands.

-- ms until an entry is tried again whose job cannot be moved, because a key of it is not ours.
local SKIP_RETRY_MS = 60000

-- What takes back the additions so far, three values each: key, member, and the score before as a time of a record, or the
-- command that removes the member. So many values are in use; the others make the table as large at once as most changes
-- need.
local undo_log, undo_size = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 0

local function log_removal(command, name, member)
  local n = undo_size
  undo_log[n + 1], undo_log[n + 2], undo_log[n + 3], undo_size = name, member, command, n + 3
end

-- The error of the first removal that failed.
local removal_error

-- Takes back the additions so far, the last one first.
local function undo()
  for i = undo_size - 2, 1, -3 do
    local name, member, before = unpack(undo_log, i, i + 2)
    local micros = parse_time(before)
    if micros then
      run_command('ZADD', name, math.floor(micros / 1000), member)
    elseif before == 'ZREM' or before == 'SREM' then
      run_command(before, name, member)
    end
  end
  undo_size = 0
end

-- Returns the reply of a command that adds. Raises, after taking back the additions before, if the key holds another type.
local function check_added(reply, name)
  if type(reply) ~= 'table' then return reply end -- these commands reply with a table only for an error
  undo()
  error(with_key(reply, name))
end

-- Runs a command that adds, and returns its reply. Raises like `check_added`.
local function add(command, name, ...)
  return check_added(run_command(command, name, ...), name)
end

-- Adds a member to an index; `before` is its score before, as a time of a record (nil for none).
local function add_score(name, score, member, before)
  local reply, n = run_command('ZADD', name, score, member), undo_size
  if type(reply) == 'table' then check_added(reply, name) end
  undo_log[n + 1], undo_log[n + 2], undo_log[n + 3], undo_size = name, member, before or 'ZREM', n + 3
end

-- To be called when the record is written: from here on the change stands.
local function commit()
  undo_size = 0
end

-- Runs a command that removes. A failure is raised by `finish`, when the other removals are done.
local function remove(command, name, ...)
  local reply = run_command(command, name, ...)
  if type(reply) == 'table' and reply.err then removal_error = removal_error or with_key(reply, name) end
end

-- Returns the reply of a change. Raises if a removal has failed: the change stands, and its retry finds it made.
local function finish(reply)
  if removal_error then error(removal_error) end
  return reply
end

-- The text of an error that `pcall` has caught: Redis gives the text alone of errors that are tables.
local function error_text(failure)
  return type(failure) == 'table' and failure.err or failure
end

-- Runs `move` for one of many jobs. Returns whether its change stands, then why it or one of its removals has failed (nil if
-- none has). Also an error of Lua, which is a fault of ours, is caught: it must not stop the other jobs, and is logged.
local function attempt(move, ...)
  local stands, failure = pcall(move, ...)
  if not stands then
    undo()
    failure = error_text(failure)
  else
    failure = removal_error and removal_error.err
  end
  removal_error = nil
  return stands, failure
end

-- Adds to a reply that a job or queue was skipped, and why.
local function note_skipped(skipped, name, failure)
  skipped[#skipped + 1] = name
  skipped[#skipped + 1] = failure
end

-- Names of keys, commands, settings, words.

-- The twin of store/partition.py.
local function key(kind, queue, state)
  if not queue then return root .. kind end
  if not state then return root .. kind .. ':' .. queue end
  return root .. kind .. ':' .. queue .. ':' .. state
end

local function job_key(id)
  return (root == 'jobs:' and '' or root) .. 'job:' .. id
end

-- An error of Redis with the name of the key.
local function with_key(failure, name)
  return { err = failure.err:gsub(' ', ' ' .. name .. ': ', 1) }
end

-- Runs a command and returns its reply. Raises, with the name of the key, if the key holds another type.
local function call(command, name, ...)
  local reply = run_command(command, name, ...)
  if type(reply) == 'table' and reply.err then error(with_key(reply, name)) end
  return reply
end

-- The settings in the field of a queue (the twin of store/queue_settings.py), all as text: paused, max_running and, where
-- the field has them, the seconds for which completed, failed and cancelled jobs are kept. Nil if it cannot be read.
local function parse_settings(field)
  local paused, max_running, rest = field:match('^(%d):(%d*)(.*)$')
  if rest == '' then return paused, max_running end
  return field:match('^(%d):(%d*):(%d*):(%d*):(%d*)$')
end

-- The state of a pending job whose delay is over.
local function due_state(job)
  return job.priority == 0 and 'pending' or 'prioritized'
end

local function contains(words, word)
  return (' ' .. words .. ' '):find(' ' .. word .. ' ', 1, true) ~= nil
end

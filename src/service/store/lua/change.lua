-- Moves a job to another status, or gives a running one new progress.
--
-- KEYS: 1 the job's hash, 2 the partition's root
-- ARGV: 1 job id, 2 change id, 3 digest of the change, 4 retention (ms), 5 target status,
--       6 statuses from which the target is legal, 7 final statuses,
--       8 versions of which the record must have one (empty for any),
--       9 `content` if the same final status is only the same change with the same content, else `status`,
--       10 … field, value, … to set
-- Returns: CHANGED or UNCHANGED with the time (µs) and the whole hash
--          NOT_FOUND
--          KEY_REUSED: the last change had this id and another content
--          PRECONDITION_FAILED, ILLEGAL with status and revision
local PROGRESS_EVENT_EVERY = 1000000 -- µs: newer progress within it is in the record, without an event of its own
local id, change_id, digest, target = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local job_hash, given = KEYS[1], pairs_from(ARGV, 10)

local function same_content()
  for _, name in ipairs({ 'result', 'error_message' }) do
    if (redis.call('HGET', job_hash, name) or nil) ~= given[name] then return false end
  end
  for name, value in pairs(given) do
    if redis.call('HGET', job_hash, name) ~= value then return false end
  end
  return true
end

local job = load(id)
if not job then return { 'NOT_FOUND' } end

local held = redis.call('HMGET', job_hash, '_change', 'progress', '_progress_event', 'attempt')
local last_change, progress = held[1] or '', held[2]
local progress_event, attempt = tonumber(held[3] or 0) or 0, tonumber(held[4] or 0)
if not attempt then error({ err = 'CORRUPT ' .. job_hash .. ' is not a record of ours' }) end
if last_change:sub(1, #change_id + 1) == change_id .. ':' then
  if last_change ~= change_id .. ':' .. digest then return { 'KEY_REUSED' } end
  return { 'UNCHANGED', digits(now()), redis.call('HGETALL', job_hash) }
end
if job.status == target and contains(ARGV[7], target) and (ARGV[9] == 'status' or same_content()) then
  return { 'UNCHANGED', digits(now()), redis.call('HGETALL', job_hash) }
end
if ARGV[8] ~= '' and not contains(ARGV[8], digits(job.created) .. '-' .. digits(job.revision)) then
  return { 'PRECONDITION_FAILED', job.status, digits(job.revision) }
end
local only_progress = job.status == 'running' and target == 'running'
if not contains(ARGV[6], job.status) or (only_progress and (not given.progress or given.progress == progress)) then
  return { 'ILLEGAL', job.status, digits(job.revision) }
end
expect_indexes(job.queue, job.shelf, target)

-- Times of a record never go back; retention and the pace of events run from now all the same.
local real = now()
local at = math.max(real, job.updated)
local moved = { id = id, status = target, shelf = target, queue = job.queue, slate_id = job.slate_id, tags = job.tags,
  created = job.created, revision = job.revision + 1, expires = math.floor(real / 1000) + tonumber(ARGV[4]) }
local set = { 'status', target, 'revision', digits(moved.revision), 'updated_at', iso(at),
  'expires_at', iso(moved.expires * 1000), '_change', change_id .. ':' .. digest }
local function also(name, value)
  set[#set + 1] = name
  set[#set + 1] = value
end
for name, value in pairs(given) do also(name, value) end
if contains(ARGV[7], target) then
  also('finished_at', iso(at))
elseif not only_progress then
  also('attempt', digits(attempt + 1))
  also('started_at', iso(at))
end
local since_event = real - progress_event
local quiet = only_progress and since_event >= 0 and since_event < PROGRESS_EVENT_EVERY
if only_progress and not quiet then also('_progress_event', digits(real)) end

redis.call('HSET', job_hash, unpack(set))
if not only_progress then redis.call('HDEL', job_hash, '_progress_event') end
redis.call('PEXPIREAT', job_hash, digits(moved.expires))
take(job)
put(moved)
if not quiet then emit('changed', moved) end
return { 'CHANGED', digits(real), redis.call('HGETALL', job_hash) }

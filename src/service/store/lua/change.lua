-- Moves a job to another status, gives a running one new progress, or asks the holder of a leased one to stop.
--
-- KEYS: 1 the job's hash, 2 the partition's root
-- ARGV: 1 job id, 2 change id, 3 digest of the change, 4 retention (ms), 5 lease token (empty for none), 6 target status,
--       7 statuses from which the target is legal, 8 versions of which the record must have one (empty for any),
--       9 `change`, of which the same final status is only the same change with the same content, or `cancel`,
--       10 … field, value, … to set
-- Returns: CHANGED with the time (µs), the whole hash and the kind: `cancel-requested`, `progress`, or the new status
--          UNCHANGED with the time (µs) and the whole hash
--          NOT_FOUND; also where this change was made to another job of this id, which is deleted since
--          LEASE_LOST with status and revision
--          KEY_REUSED: the last change had this id and another content
--          PRECONDITION_FAILED, ILLEGAL with status and revision
local id, change_id, digest, retention, token, target = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local cancels, given, job = ARGV[9] == 'cancel', pairs_from(ARGV, 10), load_whole(id)

local function same_content()
  for _, name in ipairs({ 'result', 'error_message' }) do
    if job.record[name] ~= given[name] then return false end
  end
  for name, value in pairs(given) do
    if job.record[name] ~= value then return false end
  end
  return true
end

if not job or is_of_deleted(id, change_id) then return { 'NOT_FOUND' } end
local asks = cancels and token == '' and job.lease ~= nil
if not asks and lease_is_lost(job, token) then return { 'LEASE_LOST', job.status, digits(job.revision) } end
local again = repetition(job, change_id, digest)
if again then return again end
if job.status == target and FINAL[target] and (cancels or same_content()) then return unchanged(job) end
if asks and job.cancel then return unchanged(job) end
if ARGV[8] ~= '' and not contains(ARGV[8], digits(job.created) .. '-' .. digits(job.revision)) then
  return { 'PRECONDITION_FAILED', job.status, digits(job.revision) }
end
local progress = job.status == 'running' and target == 'running'
if not contains(ARGV[7], job.status) or (progress and (not given.progress or given.progress == job.progress)) then
  return { 'ILLEGAL', job.status, digits(job.revision) }
end
expect_indexes(job, job.shelf, target)

local what = { status = target, retention = retention, set = given, change = change_id .. ':' .. digest,
  progress = progress }
if asks then
  what.status, what.lease, what.set = job.status, job.lease, { cancel_requested_at = iso(math.max(now(), job.updated)) }
elseif progress and job.lease then
  what.lease = math.floor(now() / 1000) + job.lease_seconds * 1000
end
local at = change(job, what)
return { 'CHANGED', digits(at), flat(job.record), asks and 'cancel-requested' or (progress and 'progress') or target }

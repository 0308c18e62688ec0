-- Moves a job to another status, gives a running one new progress, or asks the holder of a leased one to stop.
--
-- KEYS: 1 the job's record, 2 the partition's root
-- ARGV: 1 job id, 2 change id, 3 digest of the change, 4 retention (ms), 5 lease token (empty for none), 6 target status,
--       7 statuses from which the target is legal, 8 versions of which the record must have one (empty for any),
--       9 `change`, of which the same final status is only the same change with the same content, or `cancel`,
--       10 how long deletions are remembered (ms), 11 … field, value, … to set
-- Returns: CHANGED with the time (µs), the whole record and, where the status stays, `cancel-requested` or `progress`
--          UNCHANGED with the time (µs) and the whole record
--          NOT_FOUND; also where this change was made to another job of this id, which is deleted since
--          LEASE_LOST with status and revision
--          KEY_REUSED: the last change had this id and another content
--          BEFORE_RETRY with status and revision: this was the last change before the job was retried
--          PRECONDITION_FAILED, ILLEGAL_TRANSITION with status and revision
local id, change_id, digest, retention, token, target = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local is_cancel, given, job = ARGV[9] == 'cancel', {}, load_job_with_record(id)
for i = 11, #ARGV, 2 do given[ARGV[i]] = ARGV[i + 1] end

if not job or was_on_deleted_job(job, change_id, tonumber(ARGV[10])) then return { 'NOT_FOUND' } end
local requests_cancel = is_cancel and token == '' and job.has_lease
if not requests_cancel and lease_is_lost(job, token) then return refuse('LEASE_LOST', job) end
local replayed = replay(job, change_id, digest)
if replayed then return replayed end
if was_before_retry(job, change_id) then return refuse('BEFORE_RETRY', job) end
if job.status == target and FINAL[target] then
  local is_same = job.fields.result == given.result and job.fields.error_message == given.error_message
  for name, value in pairs(given) do is_same = is_same and job.fields[name] == value end
  if is_cancel or is_same then return unchanged(job) end
end
if requests_cancel and job.fields.cancel_requested_at then return unchanged(job) end
if not has_version(job, ARGV[8]) then return refuse('PRECONDITION_FAILED', job) end
local is_progress = job.status == 'running' and target == 'running'
if not contains(ARGV[7], job.status) or (is_progress and (not given.progress or given.progress == job.fields.progress)) then
  return refuse('ILLEGAL_TRANSITION', job)
end

local made = change_id .. ':' .. digest
if requests_cancel then
  local kind = cancel_job(job, retention, made)
  return finish({ 'CHANGED', NOW, public(job), kind })
end
local update = { status = target, retention = retention, set = given, change = made, is_progress = is_progress }
if is_progress and job.has_lease then update.lease = NOW_MS + number_in(job, 'lease_seconds') * 1000 end
change(job, update)
return finish({ 'CHANGED', NOW, public(job), is_progress and 'progress' or nil })

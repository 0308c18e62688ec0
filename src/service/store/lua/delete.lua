-- Deletes a job that has ended.
--
-- KEYS: 1 the job's record, 2 the partition's root
-- ARGV: 1 job id, 2 change id, 3 versions of which the record must have one (empty for any),
--       4 how long the deletion, and the job's last change, are remembered (ms)
-- Returns: DELETED; the same again, and nothing done, when this change id deleted a job of this id before
--          NOT_FOUND
--          PRECONDITION_FAILED, NOT_FINAL with status and revision
local id, change_id = ARGV[1], ARGV[2]
if call('ZSCORE', key('deletions'), deletion_member(id, change_id)) then return { 'DELETED' } end
local job = load_job(id)
if not job then return { 'NOT_FOUND' } end
if not has_version(job, ARGV[3]) then return refuse('PRECONDITION_FAILED', job) end
if not FINAL[job.status] then return refuse('NOT_FINAL', job) end
delete_job(job, change_id, tonumber(ARGV[4]))
return finish({ 'DELETED' })

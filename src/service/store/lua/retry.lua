-- Makes a failed or cancelled job pending again, with all its attempts left.
--
-- KEYS: 1 the job's record, 2 the partition's root
-- ARGV: 1 job id, 2 change id, 3 digest of the retry, 4 retention (ms), 5 delay (µs), 6 versions of which the record must
--       have one (empty for any), 7 how long deletions, and the last change before a retry, are remembered (ms), 8 … field,
--       value, … to set
-- Returns: CHANGED or UNCHANGED with the time (µs) and the whole record
--          NOT_FOUND; also where this retry was made of another job of this id, which is deleted since
--          KEY_REUSED: the last change, or the last retry, had this id and another content
--          PRECONDITION_FAILED, ILLEGAL_TRANSITION with status and revision
local id, change_id, digest, remembered = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[7])
local job = load_job_with_record(id)
if not job or was_on_deleted_job(job, change_id, remembered) then return { 'NOT_FOUND' } end
local replayed = replay(job, change_id, digest)
if replayed then return replayed end
if not has_version(job, ARGV[6]) then return refuse('PRECONDITION_FAILED', job) end
if not can_retry(job) then return refuse('ILLEGAL_TRANSITION', job) end

local set = {}
for i = 8, #ARGV, 2 do set[ARGV[i]] = ARGV[i + 1] end
retry_job(job, tonumber(ARGV[4]), change_id .. ':' .. digest, tonumber(ARGV[5]), set, remembered)
return finish({ 'CHANGED', NOW, public(job) })

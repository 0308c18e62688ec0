-- Deletes a job that has ended.
--
-- KEYS: 1 the job's record, 2 the partition's root
-- ARGV: 1 job id, 2 change id, 3 versions of which the record must have one (empty for any),
--       4 how long the deletion, and the job's last change, are remembered (ms)
-- Returns: DELETED; the same again, and nothing done, when this change id deleted a job of this id before
--          NOT_FOUND
--          PRECONDITION_FAILED, NOT_FINAL with status and revision
local id, change_id, forget_at = ARGV[1], ARGV[2], NOW_MS + tonumber(ARGV[4])
local deletions, deletion = key('deletions'), change_id .. ':' .. id

if call('ZSCORE', deletions, deletion) then return { 'DELETED' } end
local job = load_job(id)
if not job then return { 'NOT_FOUND' } end
if not has_version(job, ARGV[3]) then return refuse('PRECONDITION_FAILED', job) end
if not FINAL[job.status] then return refuse('NOT_FINAL', job) end

-- The ids of its last change, and of those that retries remember.
local retry, ended = unpack(call('HMGET', KEYS[1], '_retry', '_ended'))
local changes = (job.fields._change or '') .. ' ' .. (retry or '') .. ' ' .. (ended or '')
add_score(deletions, forget_at, deletion)
for made in changes:gmatch('(%S+):%S+') do add_score(deletions, forget_at, deleted_change_member(id, made)) end
emit_change('deleted', job, job.status, format('%d', job.revision + 1))

redis.call('UNLINK', KEYS[1])
commit()

remove('ZREM', key('by_created', job.queue, job.state), id)
remove('ZREM', key('by_expiry'), expiry_member(job))
local tag_entries = tag_members(job)
if #tag_entries > 0 then remove('ZREM', key('tags'), unpack(tag_entries)) end
if not has_jobs(job.queue) then remove('SREM', key('queue_names'), job.queue) end
remove('ZREMRANGEBYSCORE', deletions, '-inf', '(' .. NOW_MS)
redis.call('PEXPIREAT', deletions, format('%d', forget_at))
return finish({ 'DELETED' })

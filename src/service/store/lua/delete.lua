-- Deletes a job that has ended.
--
-- KEYS: 1 the job's hash, 2 the partition's root
-- ARGV: 1 job id, 2 change id, 3 versions of which the record must have one (empty for any),
--       4 how long the deletion, and the job's last change, are remembered (ms)
-- Returns: DELETED; the same again, and nothing done, when this change id deleted a job of this id before
--          NOT_FOUND
--          PRECONDITION_FAILED, NOT_FINAL with status and revision
local id, change_id = ARGV[1], ARGV[2]
local deletions, mark = key('deletions'), change_id .. ':' .. id

if redis.call('ZSCORE', deletions, mark) then return { 'DELETED' } end
local job = load(id)
if not job then return { 'NOT_FOUND' } end
if ARGV[3] ~= '' and not contains(ARGV[3], digits(job.created) .. '-' .. digits(job.revision)) then
  return { 'PRECONDITION_FAILED', job.status, digits(job.revision) }
end
if not FINAL[job.status] then
  return { 'NOT_FINAL', job.status, digits(job.revision) }
end
expect_indexes(job, job.shelf)
expect('zset', deletions)

local at = math.floor(now() / 1000)
local forget_at = at + tonumber(ARGV[4])
redis.call('UNLINK', KEYS[1])
take(job)
untag(job)
job.revision = job.revision + 1
emit('deleted', job)
redis.call('ZREMRANGEBYSCORE', deletions, '-inf', '(' .. digits(at))
for _, member in ipairs({ mark, last_of_deleted(id, job.last_change:match('^[^:]*')) }) do
  redis.call('ZADD', deletions, digits(forget_at), member)
end
keep(deletions, forget_at)
return { 'DELETED' }

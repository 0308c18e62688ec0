-- What decides about a request to change a job, before anything is written.

-- Whether a change must be refused for its token (empty for none): it must be the last one that was given, and a leased job
-- needs it.
local function lease_is_lost(job, token)
  if token == '' then return job.has_lease end
  return token ~= job.token
end

local function refuse(word, job)
  return { word, job.status, job.fields.revision }
end

local function unchanged(job)
  return { 'UNCHANGED', NOW, public(job) }
end

-- The reply to a request with the id of the job's last change: the record as it is, or a refusal of another content. Nil
-- for a request with an id of its own.
local function replay(job, change_id, digest)
  local last_change = job.fields._change or ''
  if last_change:sub(1, #change_id + 1) ~= change_id .. ':' then return nil end
  if last_change ~= change_id .. ':' .. digest then return { 'KEY_REUSED' } end
  return unchanged(job)
end

-- A member of `deletions` for the last change of a job that was deleted.
local function deleted_change_member(id, change_id)
  return ':' .. change_id .. ':' .. id
end

-- Whether a request with this change id was the last change of another job of this id, which is deleted: then this job is
-- not meant. Only a job that is younger than a deletion is remembered (`record_ttl`, ms) can have had a predecessor. Where
-- `deletions` is not ours, nothing is known.
local function was_on_deleted_job(job, change_id, record_ttl)
  if NOW - job.created_micros > record_ttl * 1000 then return false end
  return type(redis.pcall('ZSCORE', key('deletions'), deleted_change_member(job.id, change_id))) == 'string'
end

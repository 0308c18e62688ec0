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

-- The reply to a request with the id of the job's last change or last retry: the record as it is, or a refusal of another
-- content. Nil for a request with an id of its own.
local function replay(job, change_id, digest)
  for _, name in ipairs({ '_change', '_retry' }) do
    local last_change = job.fields[name] or ''
    if last_change:sub(1, #change_id + 1) == change_id .. ':' then
      if last_change ~= change_id .. ':' .. digest then return { 'KEY_REUSED' } end
      return unchanged(job)
    end
  end
end

-- The last changes before the retries of a job, as `_ended` holds them until they are forgotten: change id, time (ms), …
-- Retries forget those whose time is over, and add the last change of the attempt that they follow (`ttl`, ms).
local function remember_last_change(job, ttl)
  local ended = {}
  for change_id, forget_at in (job.fields._ended or ''):gmatch('(%S+):(%d+)') do
    if tonumber(forget_at) > NOW_MS then ended[#ended + 1] = change_id .. ':' .. forget_at end
  end
  local last = (job.fields._change or ''):match('^([^:]+):')
  if last then ended[#ended + 1] = last .. ':' .. format('%d', NOW_MS + ttl) end
  return ended[1] and table.concat(ended, ' ')
end

-- Whether a request repeats the last change of an attempt that ended before a retry: it must not end the new attempt.
local function was_before_retry(job, change_id)
  local before = job.fields._ended
  local _, colon = (' ' .. (before or '')):find(' ' .. change_id .. ':', 1, true)
  return colon ~= nil and tonumber(before:match('^%d+', colon)) > NOW_MS
end

-- A member of `deletions` for a deletion.
local function deletion_member(id, change_id)
  return change_id .. ':' .. id
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

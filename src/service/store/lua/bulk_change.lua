-- Cancels or retries the next jobs that a bulk action matches.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 id of the action, 2 how long it is kept after its last change (ms), 3 most jobs, 4 most index entries to walk, 5 its
--       filter, as `begin_step` in lib/bulk.lua takes it, 6 `cancel` or `retry`, 7 change id, 8 digest of the request,
--       9 retention (ms), 10 how long the last change before a retry is remembered (ms), 11 name of the API key (empty for none)
-- Returns: STEPPED with 1 if all are done (else 0), why the step ended before a job (empty if it did not), id and error of each
--          job that was refused for its record or whose index entries were not all removed, kind, number, … of the changes
local made, retention, remembered = ARGV[7] .. ':' .. ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
BY = ARGV[11] ~= '' and ARGV[11] or nil

local function cancel(job)
  if job.status == 'cancelled' then return nil end
  if FINAL[job.status] then return 'ILLEGAL_TRANSITION' end
  return nil, cancel_job(job, retention, made)
end

local function retry(job)
  if not can_retry(job) then return 'ILLEGAL_TRANSITION' end
  retry_job(job, retention, made, 0, {}, remembered)
  return nil, 'pending'
end

local act = ARGV[6] == 'cancel' and cancel or retry
return act_on_jobs(ARGV[1], ARGV[5], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), act)

-- Deletes the next jobs that a bulk action matches.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 id of the action, 2 how long it is kept after its last change (ms), 3 most jobs, 4 most index entries to walk, 5 its
--       filter, as `begin_step` in lib/bulk.lua takes it, 6 change id, 7 how long the deletions are remembered (ms)
-- Returns: STEPPED with 1 if all are done (else 0), why the step ended before a job (empty if it did not), id and error of each
--          job that was refused for its record or whose index entries were not all removed, kind, number, … of the changes
local change_id, remembered = ARGV[6], tonumber(ARGV[7])

local function delete(job)
  if not FINAL[job.status] then return 'NOT_FINAL' end
  delete_job(job, change_id, remembered)
  return nil, 'deleted'
end

return act_on_jobs(ARGV[1], ARGV[5], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), delete)

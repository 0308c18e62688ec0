-- Extends the lease of a running job, and takes its progress.
--
-- KEYS: 1 the job's hash, 2 the partition's root
-- ARGV: 1 job id, 2 lease token, 3 seconds of the lease (empty for as many as before), 4 retention (ms),
--       5 progress (empty for none)
-- Returns: EXTENDED with the end of the lease (ms), 1 if a cancel was asked for (else 0), 1 if the progress is new (else 0)
--          NOT_FOUND
--          LEASE_LOST with status and revision
local id, token, retention, progress = ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[5]

local job = load(id)
if not job then return { 'NOT_FOUND' } end
if not job.lease or token ~= job.token then return { 'LEASE_LOST', job.status, digits(job.revision) } end
expect_indexes(job, 'running')

local seconds = ARGV[3] == '' and job.lease_seconds or tonumber(ARGV[3])
local lease = math.floor(now() / 1000) + seconds * 1000
local is_new = progress ~= '' and progress ~= job.progress
if is_new then
  change(job, { status = 'running', retention = retention, lease = lease, progress = true,
    set = { progress = progress, lease_seconds = digits(seconds) } })
else
  extend(job, seconds, lease, retention)
end
return { 'EXTENDED', digits(lease), job.cancel and 1 or 0, is_new and 1 or 0 }

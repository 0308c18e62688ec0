-- Creates jobs of one partition, each by itself. One that cannot be created keeps no other from it.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 retention (ms), 2 number of partitions, 3 number of this partition, 4 … the jobs as MessagePack: maps as `create` in
--       lib/creation.lua takes them
-- Returns: JOBS, then for each job the reply of create.lua (CREATED, REPLAYED, DRAINING or EXISTS with values; a record without
--          its large fields), or ERROR with the error, where a key of it is not ours
local reply = { 'JOBS' }
for i = 4, #ARGV do
  local answer
  local stands, failure = attempt(function()
    local job = cmsgpack.unpack(ARGV[i])
    job.is_brief = true
    answer = create(job, tonumber(ARGV[1]), ARGV[2], ARGV[3])
  end)
  local error_reply = { 'ERROR', failure }
  reply[#reply + 1] = stands and answer or error_reply
end
return reply

-- Takes the gate of a queue, which lets one claim at a time count its running jobs in all partitions, or leaves it.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 queue, 2 a token of the claim, 3 for how long it is taken (ms; 0 to leave it)
-- Returns: HELD
--          LEFT
--          BUSY: another claim holds it
local gate = key('gate', ARGV[1])
local holder = call('GET', gate)
if holder and holder ~= ARGV[2] then return { 'BUSY' } end
if ARGV[3] == '0' then
  redis.call('UNLINK', gate)
  return { 'LEFT' }
end
redis.call('SET', gate, ARGV[2], 'PX', ARGV[3])
return { 'HELD' }

-- Remembers in which partitions a claim that can be repeated looks for jobs, its newest plan. A plan gets the next number once
-- the one before has given nothing in all its partitions.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 claim id, 2 the number of the plan that gave nothing (0 for none), 3 the next plan (empty for none), 4 how long it
--       is remembered at least (ms)
-- Returns: MADE with the number of the next plan and the plan
--          KNOWN with those of a plan that was made before
--          NONE: there is no plan behind the one that gave nothing
local aim, expires = key('aim', ARGV[1]), NOW_MS + tonumber(ARGV[4])
local number, plan, known_expires = (call('GET', aim) or ''):match('^(%d+) (%S+) (%d+)$')
local is_known = (tonumber(number) or 0) > tonumber(ARGV[2])
if not is_known then
  if ARGV[3] == '' then return { 'NONE' } end
  number, plan = format('%d', ARGV[2] + 1), ARGV[3]
end
expires = math.max(expires, tonumber(known_expires) or 0)
redis.call('SET', aim, number .. ' ' .. plan .. ' ' .. format('%d', expires), 'PX', format('%d', expires - NOW_MS))
if is_known then return { 'KNOWN', number, plan } end
return { 'MADE', number, plan }

-- Takes requests off a client's quota, which fills up again at an even pace (the generic cell rate algorithm).
--
-- KEYS: 1 the partition's root
-- ARGV: 1 name of the client and its limit, 2 requests, 3 in how long (µs), 4 how many to take
-- Returns: ALLOWED with the requests that are left and the time (µs) until all of them are there again
--          LIMITED with the time until all are there again and the time until as many are as were asked for
local quota, requests, window = key('rate_limit', ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local interval = window / requests

local full_at = math.max(NOW, tonumber(call('GET', quota)) or 0)
local new_full_at = full_at + interval * ARGV[4]
local wait = new_full_at - window - NOW
if wait > 0 then return { 'LIMITED', format('%d', full_at - NOW), format('%d', wait) } end

redis.call('SET', quota, format('%d', new_full_at), 'PX', format('%d', math.ceil((new_full_at - NOW) / 1000)))
return { 'ALLOWED', format('%d', floor(-wait / interval)), format('%d', new_full_at - NOW) }
